"""Tasks that failures block or that no worker serves: entries, snapshots and giving up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from tasker.config.settings import OrchestrationSettings
from tasker.orchestration.engine.orchestrator import Orchestrator
from tasker.orchestration.loops.give_up import GiveUpLoop
from tasker.orchestration.loops.runner import Loop
from tasker.orchestration.loops.unserved import UnservedLoop
from tests.support.engine import Engine, chain, graph
from tests.support.faults import refuse
from tests.support.rivals import assert_history_is_whole, at_once, rival
from tests.support.stuck import Detection, minutes, stuck_task


@pytest.fixture
async def detection(any_engine: Engine) -> AsyncIterator[Detection]:
    detection = Detection(any_engine)
    yield detection
    await detection.close()


async def fail_for_good(engine: Engine) -> None:
    """Let every enqueued step fail with an error that no retry helps."""
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()


async def block(engine: Engine) -> UUID:
    """Create a task that its failures block."""
    task = await engine.create(chain(2))
    await fail_for_good(engine)
    assert await engine.state(task) == "blocked_by_failures"
    return task


# Tasks that failures block


async def test_a_task_that_failures_block_is_put_before_a_person(detection: Detection) -> None:
    engine = detection.engine
    task = await engine.create(chain(2))
    await engine.fail(*await engine.claim(), retryable=False)
    await minutes(engine, 3)
    await engine.process()
    assert await detection.entries(task) == [("max_retries_exceeded", "blocked_by_failures", "pending")]
    entry = await detection.dlq.newest_of(task)
    assert entry is not None
    assert entry.metadata == {
        "detection_method": "blocked_by_failures",
        "time_in_state_minutes": 0,
        "threshold_minutes": 1440,
    }
    assert (entry.resolution_timestamp, entry.resolution_notes, entry.resolved_by) == (None, None, None)
    assert entry.dlq_timestamp == entry.created_at == entry.updated_at
    # The instant of the entry is that of its uuid, to the millisecond.
    assert entry.dlq_entry_uuid.version == 7
    assert abs((entry.dlq_entry_uuid.int >> 80) / 1000 - entry.dlq_timestamp.timestamp()) < 0.002


async def test_a_snapshot_tells_all_that_a_person_needs(detection: Detection) -> None:
    engine = detection.engine
    task = await engine.create(graph({"good": [], "bad": [], "last": ["good", "bad"]}))
    await engine.database.execute("UPDATE tasker.tasks SET priority = 7")
    good, bad = sorted(await engine.claim(), key=lambda step: step.name, reverse=True)
    await engine.succeed(good)
    await engine.fail(bad, retryable=False, error={"message": "x" * 600, "error_type": "disk_full"})
    await engine.process()
    entry = await detection.dlq.newest_of(task)
    assert entry is not None
    snapshot = dict(entry.task_snapshot)
    details = snapshot.pop("task_details")
    record = await engine.reader.get(task)
    assert record is not None
    assert (details["version"], details["correlation_id"]) == ("1.0.0", str(record.correlation_id))
    assert details["priority"] == 7
    assert datetime.fromisoformat(details["created_at"]) == record.created_at
    assert datetime.fromisoformat(details["requested_at"]) <= record.created_at
    failed, pending, complete = snapshot.pop("steps")  # furthest from done first
    assert [step["name"] for step in (failed, pending, complete)] == ["bad", "last", "good"]
    assert [step["state"] for step in (failed, pending, complete)] == ["error", "pending", "complete"]
    assert (failed["error_type"], failed["error_message"], failed["attempts"]) == ("disk_full", "x" * 500, 1)
    assert (pending["error_type"], pending["attempts"], complete["error_type"]) == (None, 0, None)
    assert [(x["from_state"], x["to_state"]) for x in snapshot.pop("recent_transitions")] == [
        ("steps_in_process", "blocked_by_failures"),
        ("pending", "steps_in_process"),
    ]
    assert snapshot.pop("execution_context") == {
        "total_steps": 3,
        "completed_steps": 1,
        "failed_steps": 1,
        "in_flight_steps": 0,
        "waiting_for_retry_steps": 0,
        "ready_steps": 0,
        "execution_status": "blocked_by_failures",
        "completion_percentage": 33.33,
    }
    assert datetime.fromisoformat(snapshot.pop("snapshot_timestamp")) == entry.dlq_timestamp
    assert snapshot == {
        "task_uuid": str(task),
        "namespace": "test",
        "task_name": "workflow",
        "current_state": "blocked_by_failures",
        "time_in_state_minutes": 0,
        "threshold_minutes": 1440,
    }


async def test_a_large_task_has_a_snapshot_of_bounded_size(detection: Detection) -> None:
    engine = detection.engine
    task = await engine.create(graph({f"s{n}": [] for n in range(120)}))
    steps = {step.name: step for step in await engine.claim(200)}
    await engine.succeed(*(step for name, step in steps.items() if name != "s119"))
    await engine.fail(steps["s119"], retryable=False)
    await engine.process()
    entry = await detection.dlq.newest_of(task)
    assert entry is not None
    assert entry.task_snapshot["steps"][0]["name"] == "s119"
    assert len(entry.task_snapshot["steps"]) == 50


async def test_a_task_and_its_entry_are_blocked_and_made_at_once(engine: Engine) -> None:
    """In one transaction: without the entry the task is not blocked either."""
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim(), retryable=False)
    await refuse(engine, "tasker.tasks_dlq", "true", sqlstate="53100", last=1)  # the disk is full
    with pytest.raises(psycopg.OperationalError):
        await engine.judgements.tick()
    assert await engine.state(task) == "steps_in_process"
    assert await engine.states(task) == {"s1": "enqueued_as_error_for_orchestration"}
    await engine.process()
    assert await engine.state(task) == "blocked_by_failures"
    detection = Detection(engine)
    assert await detection.entries(task) == [("max_retries_exceeded", "blocked_by_failures", "pending")]


async def test_a_task_that_is_blocked_again_gets_no_second_pending_entry(
    engine: Engine,
) -> None:
    task = await block(engine)
    step = (await engine.steps(task))["s1"].step_uuid
    await engine.operators.reset_for_retry(task, step, performed_by="sam", reason="again")
    await fail_for_good(engine)
    assert await engine.state(task) == "blocked_by_failures"
    detection = Detection(engine)
    assert await detection.entries(task) == [("max_retries_exceeded", "blocked_by_failures", "pending")]
    await assert_history_is_whole(engine, task)


# Giving up

MONTH = timedelta(days=30)
DAY = 24 * 3600


async def test_a_blocked_task_is_given_up_after_days(detection: Detection) -> None:
    engine = detection.engine
    task = await block(engine)
    loop = GiveUpLoop(detection.sessions, age=MONTH)
    await engine.move_clock(30 * DAY - 60)
    assert await loop.tick() == 600
    assert await engine.state(task) == "blocked_by_failures"
    await engine.move_clock(60)
    with capture_logs() as logs:
        await loop.tick()
    assert [(entry["event"], entry["task_uuid"], entry["after_days"]) for entry in logs] == [
        ("blocked_task_given_up", str(task), 30)
    ]
    assert await engine.state(task) == "error"
    assert await engine.states(task) == {"s1": "error", "s2": "pending"}
    ((metadata, terminal_at, wake_at),) = await engine.sql(
        "SELECT x.metadata, t.terminal_at, t.wake_at FROM tasker.tasks t "
        "JOIN tasker.task_transitions x ON x.task_uuid = t.task_uuid AND x.sort_key = t.sort_key"
    )
    assert (metadata.pop("detected_at") is not None, terminal_at is not None, wake_at) == (True, True, None)
    assert metadata == {
        "event": "give_up",
        "reason": "blocked_for_too_long",
        "namespace": "test",
        "task_name": "workflow",
    }
    # Its entry stays pending until a person resolves it.
    assert await detection.entries(task) == [("max_retries_exceeded", "blocked_by_failures", "pending")]
    await assert_history_is_whole(engine, task)
    assert await loop.tick() == 600


async def test_what_an_operator_does_starts_the_days_anew(detection: Detection) -> None:
    engine = detection.engine
    task = await engine.create(graph({"one": [], "two": []}))
    await fail_for_good(engine)
    await engine.move_clock(29 * DAY)
    step = (await engine.steps(task))["one"].step_uuid
    await engine.operators.resolve_manually(task, step, performed_by="sam", reason="not needed")
    assert await engine.state(task) == "blocked_by_failures"
    await engine.move_clock(2 * DAY)
    loop = GiveUpLoop(detection.sessions, age=MONTH)
    await loop.tick()
    assert await engine.state(task) == "blocked_by_failures"
    await engine.move_clock(28 * DAY)
    await loop.tick()
    assert await engine.state(task) == "error"


async def test_a_task_that_was_given_up_resumes_by_a_reset(detection: Detection) -> None:
    engine = detection.engine
    task = await block(engine)
    await engine.move_clock(31 * DAY)
    await GiveUpLoop(detection.sessions, age=MONTH).tick()
    step = (await engine.steps(task))["s1"].step_uuid
    await engine.operators.reset_for_retry(task, step, performed_by="sam", reason="repaired")
    await engine.run(task)
    assert await engine.state(task) == "complete"


async def test_giving_up_goes_on_until_none_is_left_and_waits_for_nobody(detection: Detection) -> None:
    engine = detection.engine
    locked, *others = [await block(engine) for _ in range(4)]
    await engine.move_clock(31 * DAY)
    loop = GiveUpLoop(detection.sessions, age=MONTH, group_size=2)
    async with rival(engine) as operator:
        await operator.lock("tasks", locked)
        assert [await at_once(loop.tick()), await at_once(loop.tick())] == [0, 600]
    assert [await engine.state(task) for task in others] == ["error"] * 3
    assert await engine.state(locked) == "blocked_by_failures"


# Namespaces without workers


async def _register(engine: Engine, *, namespaces: list[str]) -> None:
    await engine.register_worker(hostname="h", version="1", namespaces=namespaces, handlers=["work"], slots=1)


async def test_a_namespace_without_a_live_worker_is_reported(detection: Detection) -> None:
    engine = detection.engine
    await _register(engine, namespaces=["other"])
    task = await engine.create(chain(2))
    loop = UnservedLoop(detection.sessions, grace=timedelta(minutes=5))
    await minutes(engine, 1)
    assert await loop.tick() == 60
    assert await detection.entries(task) == []  # a restart of the workers takes a moment
    await minutes(engine, 4)
    with capture_logs() as logs:
        await loop.tick()
    assert [(entry["event"], entry["namespace"], entry["tasks"]) for entry in logs] == [
        ("no_live_worker", "test", 1)
    ]
    assert await detection.entries(task) == [("worker_unavailable", "steps_in_process", "pending")]
    assert await engine.states(task) == {"s1": "enqueued", "s2": "pending"}  # nothing moves
    assert await engine.state(task) == "steps_in_process"
    with capture_logs() as logs:
        await loop.tick()
    assert logs == []
    await engine.run(task)


async def test_a_worker_that_lives_or_works_keeps_its_namespace_out(detection: Detection) -> None:
    engine = detection.engine
    await _register(engine, namespaces=["test", "other"])
    queued = await engine.create(chain(1))
    loop = UnservedLoop(detection.sessions, grace=timedelta(seconds=30))
    await minutes(engine, 1)
    await loop.tick()
    assert await detection.entries(queued) == []
    await minutes(engine, 1)  # its last heartbeat is 120 s old
    running = await engine.create(chain(1))
    (first, second) = await engine.claim()
    await minutes(engine, 1)
    await loop.tick()
    assert {first.task_uuid, second.task_uuid} == {queued, running}
    assert await detection.entries(queued) == []  # claimed, so no longer queued
    await engine.retire_worker()


@pytest.mark.parametrize("end", ["dies", "stops"])
async def test_a_worker_that_is_gone_serves_nothing(detection: Detection, end: str) -> None:
    engine = detection.engine
    await _register(engine, namespaces=["test"])
    tasks = [await engine.create(chain(1)) for _ in range(3)]
    if end == "stops":
        await engine.retire_worker()
    await minutes(engine, 1.6 if end == "dies" else 1)
    loop = UnservedLoop(detection.sessions, grace=timedelta(seconds=30), group_size=2)
    assert [await loop.tick(), await loop.tick()] == [0, 60]
    for task in tasks:
        assert await detection.entries(task) == [("worker_unavailable", "steps_in_process", "pending")]


# Which loops there are

LOOPS = {"staleness", "give_up", "unserved"}


@pytest.mark.parametrize(
    ("settings", "loops"),
    [
        ({}, {"staleness", "give_up"}),
        ({"staleness_detection_enabled": False}, {"give_up"}),
        ({"dlq_give_up_days": 0}, {"staleness"}),
        ({"dlq_worker_unavailable": True}, LOOPS),
    ],
)
async def test_an_orchestrator_runs_the_loops_it_shall(settings: dict[str, object], loops: set[str]) -> None:
    given = OrchestrationSettings.load(database_url="postgresql://nobody@nowhere/nothing", **settings)
    assert LOOPS & {runner.name for runner in Orchestrator(given)._runners} == loops


@asynccontextmanager
async def loops_of(engine: Engine, **settings: object) -> AsyncIterator[dict[str, Loop]]:
    """Yield the loops of an orchestrator with these settings, by name; nothing runs but what the test ticks."""
    orchestrator = Orchestrator(OrchestrationSettings.load(database_url=engine.url, **settings))
    yield {runner.name: runner._loop for runner in orchestrator._runners}
    await orchestrator._sessions.close()
    await orchestrator._detecting.close()


@pytest.mark.parametrize(("days", "state"), [(7, "error"), (9, "blocked_by_failures")])
async def test_the_settings_say_when_to_give_up(engine: Engine, days: int, state: str) -> None:
    task = await block(engine)
    await engine.move_clock(8 * DAY)
    async with loops_of(engine, dlq_give_up_days=days) as loops:
        await loops["give_up"].tick()
    assert await engine.state(task) == state


@pytest.mark.parametrize(("after", "entries"), [(2, 1), (4, 0)])
async def test_the_settings_say_when_a_worker_is_missing(engine: Engine, after: int, entries: int) -> None:
    task = await engine.create(chain(1))
    await minutes(engine, 3)
    settings = {"dlq_worker_unavailable": True, "dlq_worker_unavailable_minutes": after}
    async with loops_of(engine, **settings) as loops:
        await loops["unserved"].tick()
    assert len(await Detection(engine).entries(task)) == entries


@pytest.mark.parametrize(("wanted", "entries"), [(True, 1), (False, 0)])
async def test_the_settings_say_whether_blocked_tasks_get_entries(
    engine: Engine, wanted: bool, entries: int
) -> None:
    task = await engine.create(chain(1))
    await engine.fail(*await engine.claim(), retryable=False)
    async with loops_of(engine, dlq_max_retries_exceeded=wanted) as loops:
        await loops["judgements"].tick()
    assert await engine.state(task) == "blocked_by_failures"
    assert len(await Detection(engine).entries(task)) == entries


STALE = {"staleness_steps_in_process_minutes": 20, "staleness_interval_seconds": 60}


@pytest.mark.parametrize(
    ("settings", "state", "entries"),
    [
        (STALE, "error", 1),
        (STALE | {"staleness_steps_in_process_minutes": 40}, "steps_in_process", 0),
        (STALE | {"staleness_dry_run": True}, "steps_in_process", 0),
        (STALE | {"staleness_auto_move_to_dlq": False}, "error", 0),
        (STALE | {"staleness_auto_transition_to_error": False}, "steps_in_process", 1),
    ],
)
async def test_the_settings_say_what_is_stale(
    engine: Engine, settings: dict[str, object], state: str, entries: int
) -> None:
    task = await stuck_task(engine)
    await minutes(engine, 25)
    async with loops_of(engine, **settings) as loops:
        assert await loops["staleness"].tick() == 60
        await minutes(engine, 1)
        await loops["staleness"].tick()
    assert await engine.state(task) == state
    assert len(await Detection(engine).entries(task)) == entries
