"""Entries that put tasks before a person, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasker.domain.dlq import BASE_SCORES, DlqReason, ResolutionStatus
from tasker.domain.errors import (
    ConcurrentChangeError,
    DlqEntryClosedError,
    DlqEntryNotFoundError,
    InvalidArgumentError,
    TaskNotFoundError,
)
from tasker.domain.step_counts import StepCounts
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.persistence.reading.dlq import DlqEntry, DlqReader
from tests.support.engine import Engine, chain
from tests.support.rivals import now, rival, start_blocked
from tests.support.stuck import Detection, minutes, stuck_task

RESOLVED = ResolutionStatus.MANUALLY_RESOLVED


@pytest.fixture
def store(engine: Engine) -> DlqReader:
    return DlqReader(engine.database)


@pytest.fixture
def entries(engine: Engine) -> DlqEntries:
    return DlqEntries(engine.database)


@pytest.fixture
async def any_detection(any_engine: Engine) -> AsyncIterator[Detection]:
    detection = Detection(any_engine)
    yield detection
    await detection.close()


# By hand


async def test_an_operator_puts_any_task_before_a_person(engine: Engine, entries: DlqEntries) -> None:
    task = await engine.create(chain(1))
    await engine.run(task)
    opened = await entries.open(task, reason="wrong total", requested_by="sam")
    assert opened.created
    entry = opened.entry
    assert (entry.dlq_reason, entry.original_state) == (DlqReason.MANUAL_DLQ, "complete")
    assert entry.metadata is not None
    assert entry.metadata["detection_method"] == "manual"
    assert (entry.metadata["reason"], entry.metadata["requested_by"]) == ("wrong total", "sam")
    assert await engine.state(task) == "complete"
    again = await entries.open(task)
    assert (again.created, again.entry) == (False, entry)


async def test_operators_at_once_make_one_entry(engine: Engine, entries: DlqEntries) -> None:
    task = await engine.create(chain(1))
    opened = await asyncio.gather(*(entries.open(task) for _ in range(8)))
    assert [found.created for found in opened].count(True) == 1
    assert len({found.entry.dlq_entry_uuid for found in opened}) == 1


async def test_what_cannot_be_put_before_a_person_is_told(engine: Engine, entries: DlqEntries) -> None:
    with pytest.raises(TaskNotFoundError):
        await entries.open(uuid4())
    task = await engine.create(chain(1))
    with pytest.raises(InvalidArgumentError) as refusal:
        await entries.open(task, reason="x" * 501, requested_by="a\0b")
    assert [violation.field for violation in refusal.value.violations] == ["reason", "requested_by"]
    assert await Detection(engine).entries(task) == []


# Updating


async def test_an_update_keeps_what_it_omits(engine: Engine, entries: DlqEntries) -> None:
    task = await engine.create(chain(1))
    entry = (await entries.open(task)).entry
    await minutes(engine, 5)
    looked = await entries.update(entry.dlq_entry_uuid, resolution_notes="looking", resolved_by="sam")
    assert (looked.resolution_status, looked.resolution_timestamp) == (ResolutionStatus.PENDING, None)
    assert (looked.resolution_notes, looked.resolved_by) == ("looking", "sam")
    assert looked.metadata == entry.metadata
    assert looked.updated_at - entry.updated_at >= timedelta(minutes=5)
    stays = await entries.update(entry.dlq_entry_uuid, resolution_status=ResolutionStatus.PENDING)
    assert stays.resolution_timestamp is None
    await minutes(engine, 5)
    ended = await entries.update(entry.dlq_entry_uuid, resolution_status=RESOLVED, metadata={"ticket": 12})
    assert (ended.resolution_status, ended.metadata) == (RESOLVED, {"ticket": 12})  # replaced as a whole
    assert (ended.resolution_notes, ended.resolved_by) == ("looking", "sam")
    assert ended.resolution_timestamp == ended.updated_at
    assert ended.resolution_timestamp - entry.dlq_timestamp >= timedelta(minutes=10)
    assert ended.task_snapshot == entry.task_snapshot
    assert await engine.states(task) == {"s1": "enqueued"}  # entries move nothing


@pytest.mark.parametrize("status", [status for status in ResolutionStatus if status != "pending"])
async def test_what_is_resolved_cannot_reopen_but_new_entries_follow(
    engine: Engine, entries: DlqEntries, status: ResolutionStatus
) -> None:
    task = await engine.create(chain(1))
    first = (await entries.open(task)).entry
    ended = await entries.update(first.dlq_entry_uuid, resolution_status=status)
    changes: list[dict[str, Any]] = [
        *({"resolution_status": other} for other in ResolutionStatus),
        {"resolution_notes": "late"},
        {"metadata": {}},
    ]
    for change in changes:
        with pytest.raises(DlqEntryClosedError, match=f"cannot be changed: it is closed as {status}"):
            await entries.update(first.dlq_entry_uuid, **change)
    await minutes(engine, 1)
    second = await entries.open(task)
    assert second.created
    store = DlqReader(engine.database)
    assert await store.newest_of(task) == second.entry
    assert await store.get(first.dlq_entry_uuid) == ended
    assert await Detection(engine).entries(task) == [
        ("manual_dlq", "steps_in_process", status.value),
        ("manual_dlq", "steps_in_process", "pending"),
    ]


async def test_a_stale_update_is_refused(engine: Engine, entries: DlqEntries) -> None:
    task = await engine.create(chain(1))
    seen = (await entries.open(task)).entry
    await entries.update(seen.dlq_entry_uuid, resolution_notes="mine", expected_updated_at=seen.updated_at)
    with pytest.raises(ConcurrentChangeError, match="read it again"):
        await entries.update(
            seen.dlq_entry_uuid, resolution_notes="theirs", expected_updated_at=seen.updated_at
        )
    entry = await DlqReader(engine.database).newest_of(task)
    assert entry is not None
    assert entry.resolution_notes == "mine"


async def test_of_two_operators_one_resolves_an_entry(engine: Engine, entries: DlqEntries) -> None:
    task = await engine.create(chain(1))
    entry = (await entries.open(task)).entry.dlq_entry_uuid
    async with rival(engine) as other:
        await other.sql(
            "SELECT tasker.update_dlq_entry_v1(%s, 'cancelled', 'first', NULL, NULL, NULL)", entry
        )
        second = await start_blocked(engine, entries.update(entry, resolution_status=RESOLVED))
        await other.commit()
    with pytest.raises(DlqEntryClosedError, match="it is closed as cancelled"):
        await second


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resolution_notes": "x" * 10_001}, "resolution_notes"),
        ({"resolved_by": "x" * 256}, "resolved_by"),
        ({"resolved_by": "a\0"}, "resolved_by"),
        ({"metadata": {"a": "\0"}}, "metadata"),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"metadata": {"a": "x" * 1_048_576}}, "metadata"),
    ],
)
async def test_a_bad_update_names_its_field_and_changes_nothing(
    engine: Engine, entries: DlqEntries, change: dict[str, Any], field: str
) -> None:
    entry = (await entries.open(await engine.create(chain(1)))).entry
    with pytest.raises(InvalidArgumentError) as refusal:
        await entries.update(entry.dlq_entry_uuid, resolution_status=RESOLVED, **change)
    assert [violation.field for violation in refusal.value.violations] == [field]
    assert await DlqReader(engine.database).get(entry.dlq_entry_uuid) == entry


async def test_an_unknown_entry_is_not_found(entries: DlqEntries, store: DlqReader) -> None:
    with pytest.raises(DlqEntryNotFoundError):
        await entries.update(uuid4(), resolution_status=RESOLVED)
    assert await store.newest_of(uuid4()) is None


# Reading


async def _entry(engine: Engine, reason: DlqReason, task: UUID | None = None) -> DlqEntry:
    """Make an entry of any reason."""
    task = task or await engine.create(chain(1))
    await engine.sql(
        "SELECT tasker.add_dlq_entries_v1(ARRAY[%s]::uuid[], %s, '{}', NULL)", task, reason.value
    )
    entry = await DlqReader(engine.database).newest_of(task)
    assert entry is not None
    return entry


async def test_entries_are_listed_newest_first(any_detection: Detection) -> None:
    engine, store = any_detection.engine, any_detection.dlq
    entries: list[DlqEntry] = []
    for reason in (DlqReason.MANUAL_DLQ, DlqReason.MAX_RETRIES_EXCEEDED, DlqReason.MANUAL_DLQ):
        entries.insert(0, await _entry(engine, reason))
        await minutes(engine, 1)
    await DlqEntries(engine.database).update(entries[1].dlq_entry_uuid, resolution_status=RESOLVED)
    entries[1] = await store.get(entries[1].dlq_entry_uuid) or entries[1]
    assert (await store.page()).rows == entries
    assert (await store.page(limit=1, skip=1)).rows == [entries[1]]
    assert (await store.page(status=ResolutionStatus.PENDING)).rows == [entries[0], entries[2]]
    assert (await store.page(status=RESOLVED)).rows == [entries[1]]
    assert (await store.page(reason=DlqReason.MANUAL_DLQ, skip=1)).rows == [entries[2]]
    assert (await store.page(status=RESOLVED, reason=DlqReason.MANUAL_DLQ)).rows == []


async def test_fifty_entries_are_listed_unless_said_otherwise(engine: Engine, store: DlqReader) -> None:
    await engine.create(chain(1))
    await engine.database.execute(
        "INSERT INTO tasker.tasks_dlq (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, "
        "task_snapshot, created_at, updated_at) SELECT gen_random_uuid(), gen_random_uuid(), 'error', 'manual_dlq', "
        "tasker.now(), '{}', tasker.now(), tasker.now() FROM generate_series(1, 120)"
    )
    pages = [(await store.page(skip=skip)).rows for skip in (0, 50, 100)]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert len({entry.dlq_entry_uuid for page in pages for entry in page}) == 120
    assert len((await store.queue()).rows) == 100


async def test_the_queue_is_ordered_by_weight_and_waiting(any_detection: Detection) -> None:
    engine, store = any_detection.engine, any_detection.dlq
    await engine.freeze_clock()
    oldest = await _entry(engine, DlqReason.MANUAL_DLQ)
    await minutes(engine, 600)  # 610 by then: before retries, behind a cycle
    rest = [await _entry(engine, reason) for reason in DlqReason]
    closed = await _entry(engine, DlqReason.DEPENDENCY_CYCLE_DETECTED)
    await DlqEntries(engine.database).update(closed.dlq_entry_uuid, resolution_status=RESOLVED)
    await engine.operators.cancel(rest[0].task_uuid)
    await minutes(engine, 2.5)
    queue = (await store.queue()).rows
    assert [(row.dlq_entry_uuid, row.priority_score, row.minutes_in_dlq) for row in queue] == [
        (rest[0].dlq_entry_uuid, 1002.5, 2.5),
        (oldest.dlq_entry_uuid, 612.5, 602.5),
        (rest[1].dlq_entry_uuid, 502.5, 2.5),
        (rest[2].dlq_entry_uuid, 102.5, 2.5),
        (rest[3].dlq_entry_uuid, 52.5, 2.5),
        (rest[4].dlq_entry_uuid, 12.5, 2.5),
    ]
    top = queue[0]
    assert (top.namespace, top.name) == ("test", "workflow")
    assert (top.original_state, top.current_state) == ("steps_in_process", "cancelled")
    assert (top.time_in_state_minutes, queue[1].time_in_state_minutes) == (2, 602)
    assert [row.dlq_reason for row in (await store.queue(limit=2)).rows] == [
        DlqReason.DEPENDENCY_CYCLE_DETECTED,
        DlqReason.MANUAL_DLQ,
    ]


def test_every_reason_has_a_weight() -> None:
    assert [reason.base_score for reason in DlqReason] == [1000, 500, 100, 50, 10]
    assert BASE_SCORES.keys() == set(DlqReason)


async def test_the_queue_shows_entries_of_tasks_that_are_gone(engine: Engine, store: DlqReader) -> None:
    entry = await _entry(engine, DlqReason.MANUAL_DLQ)
    for table in ("workflow_steps", "tasks"):
        await engine.database.execute(f"DELETE FROM tasker.{table}")
    (row,) = (await store.queue()).rows
    assert row.dlq_entry_uuid == entry.dlq_entry_uuid
    assert (row.namespace, row.name, row.current_state, row.time_in_state_minutes) == (None, None, None, None)


async def test_statistics_count_by_reason(any_detection: Detection) -> None:
    engine, store = any_detection.engine, any_detection.dlq
    assert await store.stats() == []
    await engine.freeze_clock()
    start = await now(engine)
    entries = [await _entry(engine, DlqReason.MANUAL_DLQ) for _ in range(4)]
    for entry, status in zip(entries, ResolutionStatus, strict=True):
        await minutes(engine, 10)
        if status is not ResolutionStatus.PENDING:
            await DlqEntries(engine.database).update(entry.dlq_entry_uuid, resolution_status=status)
    await _entry(engine, DlqReason.STALENESS_TIMEOUT)
    manual, stale = await store.stats()
    assert manual.dlq_reason is DlqReason.MANUAL_DLQ
    assert (manual.total_entries, manual.pending, manual.manually_resolved) == (4, 1, 1)
    assert (manual.permanent_failures, manual.cancelled) == (1, 1)
    assert (manual.oldest_entry, manual.newest_entry) == (start, start)
    assert manual.avg_resolution_time_minutes == 30  # of 20, 30 and 40
    assert (stale.total_entries, stale.pending, stale.avg_resolution_time_minutes) == (1, 1, None)
    assert stale.oldest_entry == start + timedelta(minutes=40)


async def test_an_entry_of_a_stale_task_has_its_state_before(any_detection: Detection) -> None:
    task = await stuck_task(any_detection.engine, "waiting_for_retry")
    await minutes(any_detection.engine, 45)
    await any_detection.detect()
    entry = await any_detection.dlq.newest_of(task)
    assert entry is not None
    assert entry.original_state == entry.task_snapshot["current_state"] == "waiting_for_retry"
    assert entry.task_snapshot["time_in_state_minutes"] == 45
    assert entry.task_snapshot["threshold_minutes"] == 30
    assert entry.task_snapshot["execution_context"]["execution_status"] == "has_ready_steps"


COUNTS = "total_steps, satisfied_steps, failed_steps, in_flight_steps, backoff_steps"


async def test_the_context_of_a_snapshot_is_that_of_the_domain(
    any_detection: Detection,
) -> None:
    engine = any_detection.engine
    await engine.create(chain(1))
    for ready, *counts in itertools.product((0, 1), (0, 3), (0, 1, 3), (0, 1), (0, 1), (0, 1)):
        await engine.database.execute(
            "UPDATE tasker.workflow_steps SET state = %s", ("pending" if ready else "enqueued",)
        )
        await engine.database.execute(f"UPDATE tasker.tasks SET ({COUNTS}) = (%s, %s, %s, %s, %s)", counts)
        ((context,),) = await engine.sql(
            "SELECT tasker.execution_context_v1(t, tasker.now()) FROM tasker.tasks t"
        )
        expected = StepCounts(*[*counts, ready])
        assert context["execution_status"] == expected.execution_status
        assert context["completion_percentage"] == expected.completion_percentage
        assert context["ready_steps"] == ready
