"""Tasks that need a person: look at their entries, and record what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import Struct

from tasker.client import dlq_parsing
from tasker.client.connection import Connection
from tasker.client.dlq_records import DlqEntry, DlqStats, QueuedDlqEntry, TaskStaleness
from tasker.client.paging import pages
from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.v1 import common_pb2, dlq_pb2, dlq_pb2_grpc


class DlqCalls:
    """The calls of `TaskerClient.dlq`. An entry is a note to people: no call here moves or retries a task."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        status: ResolutionStatus | None = None,
        reason: DlqReason | None = None,
        page_size: int = 50,
        timeout: float | None = None,
    ) -> AsyncGenerator[DlqEntry, None]:
        """Yield entries, newest first; pages are fetched when needed.

        Args:
            status: Only entries of this status.
            reason: Only entries of this reason.
            page_size: How many to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.
        """

        def fetch(page: common_pb2.PaginationRequest) -> Awaitable[dlq_pb2.ListDlqEntriesResponse]:
            request = dlq_pb2.ListDlqEntriesRequest(
                resolution_status=dlq_parsing.STATUSES[status] if status else None,
                dlq_reason=dlq_parsing.REASONS[reason] if reason else None,
                pagination=page,
            )
            return self._connection.call(self._stub.ListEntries, request, timeout=timeout)

        async for answer in pages(fetch, size=page_size):
            for entry in answer.entries:
                yield dlq_parsing.entry(entry)

    async def get(self, task_uuid: UUID | str, *, timeout: float | None = None) -> DlqEntry:
        """Return the newest entry of a task.

        Args:
            task_uuid: The task.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task, or it never had an entry; `reason` tells which.
        """
        request = dlq_pb2.GetDlqEntryByTaskRequest(task_uuid=str(task_uuid))
        answer = await self._connection.call(self._stub.GetEntryByTask, request, timeout=timeout)
        return dlq_parsing.entry(answer.entry)

    async def update(
        self,
        dlq_entry_uuid: UUID | str,
        *,
        status: ResolutionStatus | None = None,
        notes: str | None = None,
        resolved_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_updated_at: datetime | None = None,
        timeout: float | None = None,
    ) -> DlqEntry:
        """Record what was found, or close an entry, which is final. What is not given stays as it is.

        Args:
            dlq_entry_uuid: The entry.
            status: What became of it.
            notes: What was found; at most 10,000 characters.
            resolved_by: Who found it; at most 255 characters.
            metadata: Replaces the entry's metadata as a whole; at most 64 KiB as JSON.
            expected_updated_at: `updated_at` of the entry as you know it: nothing is changed if somebody else did.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            AbortedError: The entry has changed since `expected_updated_at`; read it again.
            InvalidArgumentError: The entry is closed, or a value is too large.
            NotFoundError: There is no such entry.
            ValueError: `expected_updated_at` has no time zone.
        """
        request = dlq_pb2.UpdateDlqInvestigationRequest(
            dlq_entry_uuid=str(dlq_entry_uuid),
            resolution_status=dlq_parsing.STATUSES[status] if status else None,
            resolution_notes=notes,
            resolved_by=resolved_by,
        )
        if metadata is not None:
            struct = Struct()
            struct.update(metadata)
            request.metadata.CopyFrom(struct)
        if expected_updated_at is not None:
            if expected_updated_at.tzinfo is None:
                raise ValueError("expected_updated_at has no time zone; pass updated_at of the entry")
            request.expected_updated_at.FromDatetime(expected_updated_at)
        # Not repeated: what came through although it failed would be refused the second time.
        answer = await self._connection.call(
            self._stub.UpdateInvestigation, request, timeout=timeout, repeatable=False
        )
        return dlq_parsing.entry(answer.entry)

    async def stats(self, *, timeout: float | None = None) -> tuple[DlqStats, ...]:
        """Return counts and times of every reason that has entries.

        Args:
            timeout: Seconds the call may take; the client's timeout by default.
        """
        answer = await self._connection.call(
            self._stub.GetStats, dlq_pb2.GetDlqStatsRequest(), timeout=timeout
        )
        return tuple(dlq_parsing.stats(row) for row in answer.stats)

    async def queue(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[QueuedDlqEntry, None]:
        """Yield pending entries, most urgent first; pages are fetched when needed.

        Args:
            page_size: How many to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.
        """

        def fetch(
            page: common_pb2.PaginationRequest,
        ) -> Awaitable[dlq_pb2.GetDlqInvestigationQueueResponse]:
            request = dlq_pb2.GetDlqInvestigationQueueRequest(pagination=page)
            return self._connection.call(self._stub.GetInvestigationQueue, request, timeout=timeout)

        async for answer in pages(fetch, size=page_size):
            for entry in answer.entries:
                yield dlq_parsing.queued_entry(entry)

    async def staleness(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[TaskStaleness, None]:
        """Yield open tasks that wait or work: stale, then warning, then healthy; then longest in their state.

        Args:
            page_size: How many to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.
        """

        def fetch(
            page: common_pb2.PaginationRequest,
        ) -> Awaitable[dlq_pb2.GetStalenessMonitoringResponse]:
            request = dlq_pb2.GetStalenessMonitoringRequest(pagination=page)
            return self._connection.call(self._stub.GetStalenessMonitoring, request, timeout=timeout)

        async for answer in pages(fetch, size=page_size):
            for task in answer.entries:
                yield dlq_parsing.staleness(task)

    @cached_property
    def _stub(self) -> dlq_pb2_grpc.DlqServiceAsyncStub:
        return dlq_pb2_grpc.DlqServiceStub(self._connection.channel)
