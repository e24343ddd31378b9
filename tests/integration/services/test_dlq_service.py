"""DlqService: tasks that need a person, and what that person records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import common_pb2, dlq_pb2
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.stuck import minutes, stuck_task
from tests.support.waiting import PATIENCE_SECONDS, until

Page = common_pb2.PaginationRequest
Reply = common_pb2.PaginationResponse
Status = dlq_pb2.DlqResolutionStatus
Reason = dlq_pb2.DlqReason
RESOLVED = Status.DLQ_RESOLUTION_STATUS_MANUALLY_RESOLVED
PENDING = Status.DLQ_RESOLUTION_STATUS_PENDING
NOBODY = str(uuid4())


@pytest.fixture
async def client(orchestration: OrchestrationService, engine: Engine) -> Any:
    """With loops that leave stuck tasks alone: nothing here waits for them."""
    for runner in orchestration._orchestrator._runners:
        await runner.stop()
    await engine.freeze_clock()
    async with Client(orchestration.address) as client:
        yield client


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


async def entries(client: Client, **fields: Any) -> dlq_pb2.ListDlqEntriesResponse:
    return await client.dlq.ListEntries(dlq_pb2.ListDlqEntriesRequest(**fields), timeout=PATIENCE_SECONDS)


async def queue(client: Client, **fields: Any) -> dlq_pb2.GetDlqInvestigationQueueResponse:
    request = dlq_pb2.GetDlqInvestigationQueueRequest(**fields)
    return await client.dlq.GetInvestigationQueue(request, timeout=PATIENCE_SECONDS)


async def staleness(client: Client, **fields: Any) -> dlq_pb2.GetStalenessMonitoringResponse:
    request = dlq_pb2.GetStalenessMonitoringRequest(**fields)
    return await client.dlq.GetStalenessMonitoring(request, timeout=PATIENCE_SECONDS)


async def stats(client: Client) -> list[dlq_pb2.DlqStats]:
    answer = await client.dlq.GetStats(dlq_pb2.GetDlqStatsRequest(), timeout=PATIENCE_SECONDS)
    return list(answer.stats)


async def entry_of(client: Client, task_uuid: str) -> dlq_pb2.DlqEntry:
    request = dlq_pb2.GetDlqEntryByTaskRequest(task_uuid=task_uuid)
    return (await client.dlq.GetEntryByTask(request, timeout=PATIENCE_SECONDS)).entry


async def update(
    client: Client, entry: dlq_pb2.DlqEntry, **fields: Any
) -> dlq_pb2.UpdateDlqInvestigationResponse:
    given: dict[str, Any] = {"dlq_entry_uuid": entry.dlq_entry_uuid}
    request = dlq_pb2.UpdateDlqInvestigationRequest(**(given | fields))
    return await client.dlq.UpdateInvestigation(request, timeout=PATIENCE_SECONDS)


async def made(client: Client, engine: Engine, reason: DlqReason = DlqReason.MANUAL_DLQ) -> dlq_pb2.DlqEntry:
    """Make an entry of a new task, a minute after the last one."""
    await minutes(engine, 1)
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.sql(
        'SELECT tasker.add_dlq_entries_v1(ARRAY[%s]::uuid[], %s, \'{"by": "test"}\', NULL)',
        UUID(task_uuid),
        reason.value,
    )
    return await entry_of(client, task_uuid)


# Reading


async def test_on_an_empty_database_everything_is_empty(client: Client) -> None:
    listing, queued, stale = await entries(client), await queue(client), await staleness(client)
    assert listing == dlq_pb2.ListDlqEntriesResponse(pagination=Reply())
    assert queued == dlq_pb2.GetDlqInvestigationQueueResponse(pagination=Reply())
    assert stale == dlq_pb2.GetStalenessMonitoringResponse(pagination=Reply())
    assert await stats(client) == []
    refusal = await refused(entry_of(client, NOBODY))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")


async def test_an_entry_of_a_blocked_task_is_whole(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task = await client.create()
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    entry = await entry_of(client, task.task_uuid)
    UUID(entry.dlq_entry_uuid)
    assert (entry.task_uuid, entry.original_state) == (task.task_uuid, "blocked_by_failures")
    assert entry.dlq_reason == Reason.DLQ_REASON_MAX_RETRIES_EXCEEDED
    assert entry.resolution_status == PENDING
    for field in ("resolution_timestamp", "resolution_notes", "resolved_by"):
        assert not entry.HasField(field)
    assert entry.dlq_timestamp == entry.created_at == entry.updated_at
    assert entry.created_at.seconds > 1_600_000_000
    snapshot = MessageToDict(entry.task_snapshot)
    assert (snapshot["task_uuid"], snapshot["current_state"]) == (task.task_uuid, "blocked_by_failures")
    assert [step["error_message"] for step in snapshot["steps"]] == ["it broke"]
    assert MessageToDict(entry.metadata)["detection_method"] == "blocked_by_failures"
    assert list((await entries(client)).entries) == [entry]


async def test_a_task_without_an_entry_says_so(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    refusal = await refused(entry_of(client, task_uuid))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "DLQ_ENTRY_NOT_FOUND")
    assert refusal.facts == {"task_uuid": task_uuid}
    refusal = await refused(entry_of(client, "7"))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"task_uuid"})


async def test_the_newest_entry_of_a_task_is_the_one(client: Client, engine: Engine) -> None:
    first = await made(client, engine)
    await update(client, first, resolution_status=RESOLVED)
    await minutes(engine, 1)
    await engine.sql(
        "SELECT tasker.add_dlq_entries_v1(ARRAY[%s]::uuid[], 'staleness_timeout', '{}', NULL)",
        UUID(first.task_uuid),
    )
    newest = await entry_of(client, first.task_uuid)
    assert newest.dlq_entry_uuid != first.dlq_entry_uuid
    assert newest.dlq_reason == Reason.DLQ_REASON_STALENESS_TIMEOUT


async def test_entries_are_filtered_and_the_newest_is_first(client: Client, engine: Engine) -> None:
    reasons = (DlqReason.MANUAL_DLQ, DlqReason.STALENESS_TIMEOUT, DlqReason.MANUAL_DLQ)
    old, middle, new = [await made(client, engine, reason) for reason in reasons]
    middle = (await update(client, middle, resolution_status=RESOLVED)).entry
    manual, stale = Reason.DLQ_REASON_MANUAL_DLQ, Reason.DLQ_REASON_STALENESS_TIMEOUT
    unspecified: dict[str, Any] = {"resolution_status": 0, "dlq_reason": 0}
    for given, wanted in (
        ({}, [new, middle, old]),
        (unspecified, [new, middle, old]),
        ({"resolution_status": 99}, [new, middle, old]),
        ({"resolution_status": PENDING}, [new, old]),
        ({"resolution_status": RESOLVED}, [middle]),
        ({"resolution_status": Status.DLQ_RESOLUTION_STATUS_CANCELLED}, []),
        ({"dlq_reason": manual}, [new, old]),
        ({"dlq_reason": stale, "resolution_status": RESOLVED}, [middle]),
        ({"dlq_reason": stale, "resolution_status": PENDING}, []),
        ({"limit": 2}, [new, middle]),
        ({"limit": 2, "offset": 2}, [old]),
        ({"offset": 3}, []),
        ({"dlq_reason": manual, "offset": 1}, [old]),
    ):
        answer = await entries(client, **given)
        assert list(answer.entries) == wanted, given
        assert answer.pagination.count == len(wanted)
    assert (await entries(client, limit=2)).pagination.total == 3
    refusal = await refused(entries(client, dlq_reason=99))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"dlq_reason"})


async def test_a_page_has_fifty_entries_and_the_others_a_hundred(client: Client, engine: Engine) -> None:
    await engine.sql(
        "INSERT INTO tasker.tasks_dlq (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, "
        "task_snapshot, created_at, updated_at) SELECT gen_random_uuid(), gen_random_uuid(), 'error', 'manual_dlq', "
        "tasker.now(), '{}', tasker.now(), tasker.now() FROM generate_series(1, 120) RETURNING 1"
    )
    assert len((await entries(client)).entries) == 50
    assert len((await queue(client)).entries) == 100
    assert len((await queue(client, limit=1000)).entries) == 120
    seen = {
        entry.dlq_entry_uuid
        for skip in (0, 50, 100)
        for entry in (await entries(client, offset=skip)).entries
    }
    assert len(seen) == 120


async def test_the_queue_is_sorted_by_urgency(client: Client, engine: Engine) -> None:
    oldest = await made(client, engine)
    await minutes(engine, 598)
    heavy = await made(client, engine, DlqReason.MAX_RETRIES_EXCEEDED)
    light = await made(client, engine, DlqReason.WORKER_UNAVAILABLE)
    closed = await made(client, engine, DlqReason.DEPENDENCY_CYCLE_DETECTED)
    await update(client, closed, resolution_status=RESOLVED)
    top, second, last = (await queue(client)).entries
    uuids = [entry.dlq_entry_uuid for entry in (oldest, heavy, light)]
    assert [entry.dlq_entry_uuid for entry in (top, second, last)] == uuids
    assert [entry.priority_score for entry in (top, second, last)] == [611, 502, 51]
    assert [entry.minutes_in_dlq for entry in (top, second, last)] == [601, 2, 1]
    assert (top.namespace_name, top.task_name, top.task_uuid) == ("test", "workflow", oldest.task_uuid)
    assert (top.original_state, top.current_state) == ("steps_in_process", "steps_in_process")
    assert (top.time_in_state_minutes, top.dlq_reason) == (601, Reason.DLQ_REASON_MANUAL_DLQ)
    assert top.dlq_timestamp == oldest.dlq_timestamp


async def test_statistics_count_by_reason(client: Client, engine: Engine) -> None:
    first, second = [await made(client, engine) for _ in range(2)]
    await made(client, engine, DlqReason.STALENESS_TIMEOUT)
    await minutes(engine, 8)
    await update(client, first, resolution_status=RESOLVED)
    manual, stale = await stats(client)
    assert manual == dlq_pb2.DlqStats(
        dlq_reason=Reason.DLQ_REASON_MANUAL_DLQ,
        total_entries=2,
        pending=1,
        manually_resolved=1,
        oldest_entry=first.dlq_timestamp,
        newest_entry=second.dlq_timestamp,
        avg_resolution_time_minutes=10,
    )
    assert (stale.dlq_reason, stale.pending) == (Reason.DLQ_REASON_STALENESS_TIMEOUT, 1)
    assert not stale.HasField("avg_resolution_time_minutes")


async def test_monitoring_shows_the_stalest_first(client: Client, engine: Engine, database_url: str) -> None:
    stale = str(await stuck_task(engine, lifecycle={"max_steps_in_process_minutes": 20}))
    waits = str(await stuck_task(engine, lifecycle={"max_steps_in_process_minutes": 1000}))
    await minutes(engine, 1)
    warning = str(await stuck_task(engine, "waiting_for_retry", {"max_waiting_for_retry_minutes": 25}))
    await minutes(engine, 20.5)
    shown = (await staleness(client)).entries
    healths = dlq_pb2.StalenessHealthStatus
    assert [(entry.task_uuid, entry.health_status) for entry in shown] == [
        (stale, healths.STALENESS_HEALTH_STATUS_STALE),
        (warning, healths.STALENESS_HEALTH_STATUS_WARNING),
        (waits, healths.STALENESS_HEALTH_STATUS_HEALTHY),
    ]
    top = shown[0]
    assert (top.namespace_name, top.task_name, top.current_state) == ("test", "workflow", "steps_in_process")
    assert (top.time_in_state_minutes, top.task_age_minutes, top.staleness_threshold_minutes) == (21, 21, 20)
    assert top.priority == 0
    assert [entry.task_uuid for entry in (await staleness(client, limit=2)).entries] == [stale, warning]
    plain = str(await stuck_task(engine, "waiting_for_dependencies"))
    async with (
        services.orchestration(database_url, staleness_waiting_for_dependencies_minutes=5) as stricter,
        Client(stricter.address) as other,
    ):
        thresholds = {
            entry.task_uuid: entry.staleness_threshold_minutes for entry in (await staleness(other)).entries
        }
    assert (thresholds[stale], thresholds[plain]) == (20, 5)  # a template comes before the settings


# Pages

Fetch = Callable[..., Awaitable[Any]]


async def _many(client: Client, engine: Engine, fetch: Fetch) -> None:
    if fetch is staleness:
        for _ in range(5):
            await stuck_task(engine, "waiting_for_dependencies")
            await minutes(engine, 1)
    else:
        for reason in DlqReason:
            await made(client, engine, reason)


@pytest.mark.parametrize("fetch", [entries, queue, staleness])
async def test_tokens_lead_through_every_row_once(client: Client, engine: Engine, fetch: Fetch) -> None:
    await _many(client, engine, fetch)
    whole = [entry.task_uuid for entry in (await fetch(client)).entries]
    assert len(whole) == 5
    for limit in (1, 2, 5, 1000):
        answer = await fetch(client, pagination=Page(limit=limit))
        seen = [entry.task_uuid for entry in answer.entries]
        while answer.pagination.has_more:
            assert answer.pagination.total == 5
            # Time goes by, rows come that were not there before: neither repeats nor hides another.
            await minutes(engine, 100)
            token = answer.pagination.next_page_token
            answer = await fetch(client, pagination=Page(limit=limit, page_token=token))
            assert answer.pagination.offset == len(seen)
            seen += [entry.task_uuid for entry in answer.entries]
        assert seen == whole
        assert not answer.pagination.HasField("next_page_token")
    skipped = await fetch(client, pagination=Page(limit=2, offset=1))
    assert [entry.task_uuid for entry in skipped.entries] == whole[1:3]
    # The limit that was there before leads on to the same pages.
    older = await fetch(client, limit=3)
    token = older.pagination.next_page_token
    rest = await fetch(client, pagination=Page(page_token=token))
    assert [entry.task_uuid for entry in (*older.entries, *rest.entries)] == whole


@pytest.mark.parametrize("fetch", [entries, queue, staleness])
async def test_bad_limits_and_tokens_name_their_field(client: Client, engine: Engine, fetch: Fetch) -> None:
    await _many(client, engine, fetch)
    token = (await fetch(client, limit=1)).pagination.next_page_token
    others = [other for other in (entries, queue, staleness) if other is not fetch]
    bad: list[tuple[Fetch, dict[str, Any], set[str]]] = [
        (fetch, {"limit": 0}, {"limit"}),
        (fetch, {"limit": -1}, {"limit"}),
        (fetch, {"limit": 1001}, {"limit"}),
        (fetch, {"limit": 5, "pagination": Page()}, {"limit"}),
        (fetch, {"pagination": Page(limit=0)}, {"pagination.limit"}),
        (fetch, {"pagination": Page(offset=-1)}, {"pagination.offset"}),
        (fetch, {"pagination": Page(page_token="forged")}, {"pagination.page_token"}),
        *((other, {"pagination": Page(page_token=token)}, {"pagination.page_token"}) for other in others),
    ]
    if fetch is entries:
        bad += [
            (fetch, {"offset": -1}, {"offset"}),
            (fetch, {"offset": 1, "pagination": Page()}, {"offset"}),
            (
                fetch,
                {"resolution_status": PENDING, "pagination": Page(page_token=token)},
                {"pagination.page_token"},
            ),
        ]
    for call, given, wrong in bad:
        refusal = await refused(call(client, **given))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, wrong), given


async def test_a_page_ends_early_rather_than_grow_too_large(client: Client, engine: Engine) -> None:
    await engine.sql(
        "INSERT INTO tasker.tasks_dlq (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, "
        "task_snapshot, metadata, created_at, updated_at) SELECT gen_random_uuid(), gen_random_uuid(), 'error', "
        "'manual_dlq', tasker.now(), jsonb_build_object('n', (SELECT jsonb_agg(1) FROM generate_series(1, 60000))), "
        "'{}', tasker.now(), tasker.now() FROM generate_series(1, 20) RETURNING 1"
    )
    answer = await entries(client)
    seen = [entry.dlq_entry_uuid for entry in answer.entries]
    assert (0 < len(seen) < 20, answer.pagination.has_more, answer.pagination.total) == (True, True, 20)
    while answer.pagination.has_more:
        assert answer.ByteSize() < 4 * 1024 * 1024
        answer = await entries(client, pagination=Page(page_token=answer.pagination.next_page_token))
        seen += [entry.dlq_entry_uuid for entry in answer.entries]
    assert len(seen) == len(set(seen)) == 20


# Updating


async def test_an_update_changes_what_is_given(client: Client, engine: Engine) -> None:
    entry = await made(client, engine)
    await minutes(engine, 1)
    answer = await update(client, entry, resolution_notes="the bank was down")
    assert (answer.success, answer.dlq_entry_uuid) == (True, entry.dlq_entry_uuid)
    assert answer.message
    noted = answer.entry
    assert (noted.resolution_notes, noted.resolution_status) == ("the bank was down", PENDING)
    assert not noted.HasField("resolution_timestamp")
    assert noted.metadata == entry.metadata
    assert noted.updated_at.seconds == entry.updated_at.seconds + 60
    await update(client, entry, metadata=struct(ticket="T-1"))
    await update(client, entry, resolved_by="ada", resolution_status=RESOLVED)
    closed = await entry_of(client, entry.task_uuid)
    assert MessageToDict(closed.metadata) == {"ticket": "T-1"}
    assert (closed.resolution_notes, closed.resolved_by) == ("the bank was down", "ada")
    assert closed.resolution_status == RESOLVED
    assert closed.resolution_timestamp == closed.updated_at
    assert closed.task_snapshot == entry.task_snapshot


async def test_a_closed_entry_stays_as_it_is(client: Client, engine: Engine) -> None:
    for status in ResolutionStatus:
        if status is ResolutionStatus.PENDING:
            continue
        entry = await made(client, engine)
        number = Status.Value(f"DLQ_RESOLUTION_STATUS_{status.name}")
        closed = (await update(client, entry, resolution_status=number)).entry
        for given in ({"resolution_status": PENDING}, {"resolution_notes": "late"}, {}):
            refusal = await refused(update(client, entry, **given))
            assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "DLQ_ENTRY_CLOSED")
            assert refusal.facts["state"] == status
        assert await entry_of(client, entry.task_uuid) == closed


async def test_an_entry_that_changed_meanwhile_is_left_alone(client: Client, engine: Engine) -> None:
    entry = await made(client, engine)
    await minutes(engine, 1)
    known: dict[str, Any] = {"expected_updated_at": entry.updated_at}
    mine = (await update(client, entry, resolution_notes="mine", **known)).entry
    refusal = await refused(update(client, entry, resolution_notes="yours", **known))
    assert (refusal.code, refusal.reason) == (StatusCode.ABORTED, "CONCURRENT_CHANGE")
    assert "read it again" in refusal.message
    assert await entry_of(client, entry.task_uuid) == mine
    # One that was closed meanwhile has changed, too.
    closed = (
        await update(client, entry, resolution_status=RESOLVED, expected_updated_at=mine.updated_at)
    ).entry
    assert (await refused(update(client, entry, **known))).code is StatusCode.ABORTED
    known = {"expected_updated_at": closed.updated_at}
    assert (await refused(update(client, entry, **known))).reason == "DLQ_ENTRY_CLOSED"


async def test_of_updates_at_once_one_wins(client: Client, engine: Engine) -> None:
    entry = await made(client, engine)
    await minutes(engine, 1)
    answers = await asyncio.gather(
        *(
            update(client, entry, resolution_notes=f"{n}", expected_updated_at=entry.updated_at)
            for n in range(10)
        ),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, dlq_pb2.UpdateDlqInvestigationResponse)]
    lost = [answer.code() for answer in answers if isinstance(answer, aio.AioRpcError)]
    assert (len(won), lost) == (1, [StatusCode.ABORTED] * 9)
    assert await entry_of(client, entry.task_uuid) == won[0].entry


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"dlq_entry_uuid": ""}, {"dlq_entry_uuid"}),
        ({"dlq_entry_uuid": "7", "resolution_status": 9}, {"dlq_entry_uuid", "resolution_status"}),
        ({"resolution_status": 0}, {"resolution_status"}),
        ({"resolution_notes": "x" * 10_001, "resolved_by": "y" * 256}, {"resolution_notes", "resolved_by"}),
        ({"resolution_notes": "a\0b"}, {"resolution_notes"}),
        ({"metadata": struct(n=float("nan"))}, {"metadata.n"}),
        ({"metadata": struct(text="x" * 64 * 1024)}, {"metadata"}),
        ({"expected_updated_at": Timestamp(seconds=10**12)}, {"expected_updated_at"}),
        ({"expected_updated_at": Timestamp(nanos=-1)}, {"expected_updated_at"}),
    ],
)
async def test_a_bad_update_names_its_fields_and_changes_nothing(
    client: Client, engine: Engine, fields: dict[str, Any], wrong: set[str]
) -> None:
    entry = await made(client, engine)
    refusal = await refused(update(client, entry, **fields))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, wrong)
    assert await entry_of(client, entry.task_uuid) == entry


async def test_an_unknown_entry_is_not_found(client: Client) -> None:
    refusal = await refused(update(client, dlq_pb2.DlqEntry(dlq_entry_uuid=NOBODY), resolution_notes="n"))
    assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "DLQ_ENTRY_NOT_FOUND")
    assert refusal.facts == {"dlq_entry_uuid": NOBODY}


async def test_nothing_here_moves_a_task(client: Client, engine: Engine) -> None:
    entry = await made(client, engine)
    before = await client.get(entry.task_uuid)
    await update(
        client, entry, resolution_status=Status.DLQ_RESOLUTION_STATUS_CANCELLED, resolution_notes="no"
    )
    assert await client.get(entry.task_uuid) == before
    await until(engine.claim)
