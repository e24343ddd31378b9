"""tasker.v1.DlqService."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from tasker.domain.dlq import StalenessHealth
from tasker.domain.errors import DlqEntryNotFoundError, TaskNotFoundError
from tasker.domain.staleness import StalenessLimits
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.orchestration.services import dlq_query, parse, render_dlq
from tasker.orchestration.services.paging import PageTokens
from tasker.persistence.reading.dlq import DlqEntry, DlqReader, LastEntry, QueuedDlqEntry
from tasker.persistence.reading.staleness import LastStaleness, StalenessReader, TaskStaleness
from tasker.persistence.reading.tasks import TaskReader
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import dlq_pb2, dlq_pb2_grpc

#: How much of the queue or of the staleness comes unless said otherwise.
_DEFAULT_LIMIT: Final = 100


class DlqService(dlq_pb2_grpc.DlqServiceServicer):
    """Shows tasks that need a person, and records what that person finds."""

    def __init__(
        self,
        entries: DlqEntries,
        reader: DlqReader,
        staleness: StalenessReader,
        tasks: TaskReader,
        *,
        limits: StalenessLimits,
        tokens: PageTokens,
    ) -> None:
        self._entries = entries
        self._reader = reader
        self._staleness = staleness
        self._tasks = tasks
        self._limits = limits
        self._tokens = tokens

    async def ListEntries(
        self, request: dlq_pb2.ListDlqEntriesRequest, context: ServicerContext
    ) -> dlq_pb2.ListDlqEntriesResponse:
        """Return a page of the entries that match, newest first."""
        wanted = dlq_query.wanted_entries(request)
        listing = self._tokens.listing(
            b"dlq entries", (wanted.status or "").encode(), (wanted.reason or "").encode()
        )
        page = dlq_query.page(listing, request)
        found = await self._reader.page(
            status=wanted.status,
            reason=wanted.reason,
            limit=page.limit,
            skip=page.skip,
            after=_last_entry(page.after),
        )
        return dlq_pb2.ListDlqEntriesResponse(
            entries=[render_dlq.entry(entry) for entry in found.rows],
            pagination=listing.reply(page, found.total, found.rows, more=found.more, key=_place),
        )

    async def GetEntryByTask(
        self, request: dlq_pb2.GetDlqEntryByTaskRequest, context: ServicerContext
    ) -> dlq_pb2.GetDlqEntryByTaskResponse:
        """Return the newest entry of a task."""
        task_uuid = parse.task_uuid(request.task_uuid)
        entry = await self._reader.newest_of(task_uuid)
        if entry is None:
            if await self._tasks.state(task_uuid) is None:
                raise TaskNotFoundError(task_uuid)
            raise DlqEntryNotFoundError(task_uuid=task_uuid)
        return dlq_pb2.GetDlqEntryByTaskResponse(entry=render_dlq.entry(entry))

    async def UpdateInvestigation(
        self, request: dlq_pb2.UpdateDlqInvestigationRequest, context: ServicerContext
    ) -> dlq_pb2.UpdateDlqInvestigationResponse:
        """Record findings, or close an entry."""
        update = dlq_query.entry_update(request)
        entry = await self._entries.update(
            update.dlq_entry_uuid,
            resolution_status=update.status,
            resolution_notes=update.notes,
            resolved_by=update.resolved_by,
            metadata=update.metadata,
            expected_updated_at=update.expected_updated_at,
        )
        return dlq_pb2.UpdateDlqInvestigationResponse(
            success=True,
            message=f"the entry is {entry.resolution_status}",
            dlq_entry_uuid=str(entry.dlq_entry_uuid),
            entry=render_dlq.entry(entry),
        )

    async def GetStats(
        self, request: dlq_pb2.GetDlqStatsRequest, context: ServicerContext
    ) -> dlq_pb2.GetDlqStatsResponse:
        """Return counts and times of every reason that has entries."""
        return dlq_pb2.GetDlqStatsResponse(
            stats=[render_dlq.stats(row) for row in await self._reader.stats()]
        )

    async def GetInvestigationQueue(
        self, request: dlq_pb2.GetDlqInvestigationQueueRequest, context: ServicerContext
    ) -> dlq_pb2.GetDlqInvestigationQueueResponse:
        """Return a page of the pending entries, most urgent first."""
        listing = self._tokens.listing(b"dlq queue", default_limit=_DEFAULT_LIMIT)
        page = dlq_query.page(listing, request)
        found = await self._reader.queue(limit=page.limit, skip=page.skip, after=_last_entry(page.after))
        return dlq_pb2.GetDlqInvestigationQueueResponse(
            entries=[render_dlq.queued_entry(entry) for entry in found.rows],
            pagination=listing.reply(page, found.total, found.rows, more=found.more, key=_place_in_queue),
        )

    async def GetStalenessMonitoring(
        self, request: dlq_pb2.GetStalenessMonitoringRequest, context: ServicerContext
    ) -> dlq_pb2.GetStalenessMonitoringResponse:
        """Return a page of the open tasks that wait or work, the stalest first."""
        listing = self._tokens.listing(b"staleness", default_limit=_DEFAULT_LIMIT)
        page = dlq_query.page(listing, request)
        found = await self._staleness.tasks(
            self._limits, limit=page.limit, skip=page.skip, after=_last_staleness(page.after)
        )
        return dlq_pb2.GetStalenessMonitoringResponse(
            entries=[render_dlq.staleness(task) for task in found.rows],
            pagination=listing.reply(page, found.total, found.rows, more=found.more, key=_place_by_staleness),
        )


def _place(entry: DlqEntry) -> list[str]:
    return [entry.dlq_timestamp.isoformat(), str(entry.dlq_entry_uuid)]


def _place_in_queue(entry: QueuedDlqEntry) -> list[str]:
    return [entry.urgent_since.isoformat(), str(entry.dlq_entry_uuid)]


def _last_entry(place: tuple[str, ...]) -> LastEntry | None:
    if not place:
        return None
    at, dlq_entry_uuid = place
    return LastEntry(datetime.fromisoformat(at), UUID(dlq_entry_uuid))


def _place_by_staleness(task: TaskStaleness) -> list[str | float]:
    return [task.read_at.isoformat(), task.health, task.time_in_state_minutes, str(task.task_uuid)]


def _last_staleness(place: tuple[str, str, float, str] | tuple[()]) -> LastStaleness | None:
    if not place:
        return None
    read_at, health, minutes, task_uuid = place
    return LastStaleness(datetime.fromisoformat(read_at), StalenessHealth(health), minutes, UUID(task_uuid))
