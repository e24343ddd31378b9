"""Detection beside others: several instances, faults in the middle, tasks that move on, and what it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from tasker.domain.staleness import Reaction, StalenessLimits
from tasker.orchestration.loops.runner import LoopRunner
from tasker.orchestration.loops.staleness import DetectionRules, StalenessDetector
from tasker.persistence.operations.dlq import add_dlq_entry_by_hand
from tasker.persistence.operations.give_up import ClosedTask
from tasker.persistence.operations.staleness import lock_detection
from tests.support.engine import Engine
from tests.support.faults import refuse
from tests.support.rivals import (
    assert_history_is_whole,
    at_once,
    disconnect,
    reconnect,
    rival,
    start_blocked,
    until,
)
from tests.support.stuck import Detection, minutes, stuck_task

ENTRY = ("staleness_timeout", "steps_in_process", "pending")
LIMITS = StalenessLimits()


@pytest.fixture
async def detection(any_engine: Engine) -> AsyncIterator[Detection]:
    detection = Detection(any_engine)
    yield detection
    await detection.close()


async def _stale(engine: Engine, count: int) -> list[UUID]:
    tasks = [await stuck_task(engine) for _ in range(count)]
    await minutes(engine, 31)
    return tasks


async def _dealt_with(detection: Detection) -> set[UUID]:
    """Return the tasks in `error`; check that these have one entry each and the others none."""
    rows = await detection.engine.sql(
        "SELECT t.task_uuid, t.state, count(e.task_uuid), (SELECT count(*) FROM tasker.task_transitions x "
        "WHERE x.task_uuid = t.task_uuid AND x.to_state = 'error') "
        "FROM tasker.tasks t LEFT JOIN tasker.tasks_dlq e USING (task_uuid) GROUP BY t.task_uuid"
    )
    assert all(
        (entries, moves) == ((1, 1) if state == "error" else (0, 0)) for _, state, entries, moves in rows
    )
    await assert_history_is_whole(detection.engine)
    return {task for task, state, *_ in rows if state == "error"}


# One instance at a time


async def test_detectors_at_once_deal_with_each_task_once(detection: Detection) -> None:
    tasks = await _stale(detection.engine, 8)
    detections = [Detection(detection.engine) for _ in range(3)]
    detectors = [await each.detector(group_size=3) for each in detections]
    for _ in range(4):
        await asyncio.gather(*(detector.tick() for detector in detectors))
    assert await _dealt_with(detection) == set(tasks)
    for each in detections:
        await each.close()


async def test_while_one_detects_the_others_leave_it_to_them(detection: Detection) -> None:
    tasks = await _stale(detection.engine, 1)
    another = Detection(detection.engine)
    detector = await detection.detector()
    async with another.detecting.transaction() as transaction:
        assert (await lock_detection(transaction)).locked
        assert await at_once(detector.tick()) == 30
        assert await _dealt_with(detection) == set()
    await another.close()
    await detector.tick()
    assert await _dealt_with(detection) == set(tasks)


async def test_without_the_lock_each_task_is_still_dealt_with_once(detection: Detection) -> None:
    """The lock saves work; what keeps entries and moves single is checked under each task's own lock."""
    tasks = await _stale(detection.engine, 5)
    for _ in range(2):
        stale = await detection.stale(LIMITS, 100)
        attempts = await asyncio.gather(
            *(detection.close_stale(task, LIMITS, Reaction(True, True)) for task in stale for _ in range(3))
        )
    assert not [attempt for attempt in attempts if attempt.closed]  # nothing was left for the second round
    assert await _dealt_with(detection) == set(tasks)


# When


async def test_it_waits_one_interval_after_each_connection(detection: Detection) -> None:
    engine = detection.engine
    tasks = await _stale(engine, 1)
    await engine.freeze_clock()
    await minutes(engine, -60)  # freezing put it an hour ahead
    detector = StalenessDetector(
        detection.detecting, detection.sessions, DetectionRules(interval=timedelta(seconds=300))
    )
    assert await detector.tick() == 300
    await engine.move_clock(100)
    assert await detector.tick() == 200
    assert await disconnect(engine) > 1
    await reconnect(engine)
    await engine.move_clock(250)
    assert await detector.tick() == 300  # nobody could renew or retry anything meanwhile
    assert await _dealt_with(detection) == set()
    await engine.move_clock(300)
    assert await detector.tick() == 300
    assert await _dealt_with(detection) == set(tasks)


async def test_it_runs_as_a_background_loop(detection: Detection) -> None:
    tasks = await _stale(detection.engine, 3)
    rules = DetectionRules(interval=timedelta(milliseconds=20), group_size=2)
    runner = LoopRunner(StalenessDetector(detection.detecting, detection.sessions, rules))
    runner.start()

    async def done() -> bool:
        return await _dealt_with(detection) == set(tasks)

    await until(done, "the loop does not deal with stale tasks")
    await runner.stop()
    assert runner.failures == 0


# Faults


async def test_the_failure_of_one_task_does_not_reach_the_others(detection: Detection) -> None:
    first, second, third = await _stale(detection.engine, 3)
    await refuse(detection.engine, "tasker.tasks_dlq", f"NEW.task_uuid = '{first}'")
    events = await detection.detect(group_size=1)  # those longest in their state come first, and stay
    assert [(event["task_uuid"], event["action_taken"]) for event in events] == [
        (str(first), "transition_failed"),
        (str(second), "transitioned_to_dlq_and_error"),
        (str(third), "transitioned_to_dlq_and_error"),
    ]
    assert [event["log_level"] for event in events] == ["error", "warning", "warning"]
    assert await _dealt_with(detection) == {second, third}


async def test_a_task_that_cannot_be_moved_gets_no_entry_either(detection: Detection) -> None:
    (task,) = await _stale(detection.engine, 1)
    await refuse(detection.engine, "tasker.task_transitions", "NEW.to_state = 'error'", last=1)
    assert [event["action_taken"] for event in await detection.detect()] == ["transition_failed"]
    assert await _dealt_with(detection) == set()
    await detection.detect()  # the next cycle
    assert await _dealt_with(detection) == {task}


async def test_a_lifecycle_that_cannot_be_read_is_that_tasks_trouble_alone(detection: Detection) -> None:
    bad = await stuck_task(detection.engine, lifecycle={"auto_fail_on_timeout": True})
    good = await stuck_task(detection.engine)
    await detection.engine.database.execute(
        "UPDATE tasker.template_revisions SET template = jsonb_set(template, '{lifecycle,staleness_action}', '\"?\"') "
        "WHERE template #>> '{lifecycle,auto_fail_on_timeout}' = 'true'"
    )
    await minutes(detection.engine, 31)
    assert [event["action_taken"] for event in await detection.detect()] == [
        "transition_failed",
        "transitioned_to_dlq_and_error",
    ]
    assert await _dealt_with(detection) == {good}
    assert await detection.engine.state(bad) == "steps_in_process"


async def test_another_instance_finishes_what_a_crash_left(detection: Detection) -> None:
    """The database fails in the middle of a group, and with it the instance; what it had done stays."""
    engine = detection.engine
    tasks = await _stale(engine, 5)
    await refuse(engine, "tasker.tasks_dlq", "true", sqlstate="57P01", first=3, last=3)
    detector = await detection.detector()
    with pytest.raises(psycopg.OperationalError):
        await detector.tick()
    assert await _dealt_with(detection) == set(tasks[:2])  # longest in state first
    heir = Detection(engine)
    assert len(await heir.detect()) == 3
    assert await _dealt_with(detection) == set(tasks)
    await heir.close()


async def test_a_broken_connection_in_the_middle_costs_nothing(detection: Detection) -> None:
    engine = detection.engine
    tasks = await _stale(engine, 2)
    detector = await detection.detector()
    async with rival(engine) as keeper:
        await keeper.sql("LOCK TABLE tasker.tasks_dlq IN ACCESS EXCLUSIVE MODE")
        ticking = await start_blocked(engine, detector.tick())
        await disconnect(engine, query_like="%stale%")
    with pytest.raises(psycopg.OperationalError):
        await ticking
    await reconnect(engine)
    assert await _dealt_with(detection) == set()
    await detection.detect()
    assert await _dealt_with(detection) == set(tasks)


# Tasks that move on


async def test_a_task_that_somebody_has_locked_is_left_alone(detection: Detection) -> None:
    engine = detection.engine
    locked, free = await _stale(engine, 2)
    detector = await detection.detector()
    async with rival(engine) as evaluator:
        await evaluator.lock("tasks", locked)
        with capture_logs() as logs:
            await at_once(detector.tick())
        assert [entry["task_uuid"] for entry in logs] == [str(free)]
    assert await _dealt_with(detection) == {free}


@pytest.mark.parametrize("more", [1, 24 * 60])  # beyond its lifetime it stays, however young its state
async def test_a_task_that_completes_meanwhile_is_complete(detection: Detection, more: int) -> None:
    engine = detection.engine
    (task,) = await _stale(engine, 1)
    await minutes(engine, more)
    (seen,) = await detection.stale(LIMITS, 100)
    await engine.reconciler.tick()  # sends the lost result again
    await engine.process()
    assert await engine.state(task) == "complete"
    assert await detection.close_stale(seen, LIMITS, Reaction(True, True)) == ClosedTask(False, None)
    assert await _dealt_with(detection) == set()


async def test_a_task_that_moved_and_came_back_has_a_new_clock(detection: Detection) -> None:
    engine = detection.engine
    task = await stuck_task(engine, "waiting_for_retry")
    await minutes(engine, 31)
    (seen,) = await detection.stale(LIMITS, 100)
    await engine.timers.tick()
    await engine.fail(*await engine.claim())
    await engine.process()
    assert await engine.state(task) == "waiting_for_retry"
    assert await detection.close_stale(seen, LIMITS, Reaction(True, True)) == ClosedTask(False, None)
    assert await detection.entries(task) == []


async def test_of_a_result_and_a_detector_one_wins(detection: Detection) -> None:
    engine = detection.engine
    tasks = await _stale(engine, 12)
    stale = await detection.stale(LIMITS, 100)
    await minutes(engine, 1)
    await engine.reconciler.tick()
    await asyncio.gather(
        engine.process(), *(detection.close_stale(task, LIMITS, Reaction(True, True)) for task in stale)
    )
    await engine.process()
    ended = {task: await engine.state(task) for task in tasks}
    assert set(ended.values()) <= {"complete", "error"}
    assert await _dealt_with(detection) == {task for task, state in ended.items() if state == "error"}


async def test_a_late_result_is_kept_and_moves_nothing(detection: Detection) -> None:
    engine = detection.engine
    (task,) = await _stale(engine, 1)
    await detection.detect()
    ((message,),) = await engine.sql(
        "SELECT jsonb_build_object('v', 1, 'task_uuid', task_uuid, 'step_uuid', step_uuid) "
        "FROM tasker.workflow_steps"
    )
    await engine.sql("SELECT pgmq.send('orchestration_step_results', %s::jsonb)", json.dumps(message))
    await engine.process()
    assert await engine.states(task) == {"s1": "complete"}
    assert await engine.state(task) == "error"
    assert await detection.entries(task) == [ENTRY]


async def test_a_task_with_a_pending_entry_is_left_alone(detection: Detection) -> None:
    engine = detection.engine
    (task,) = await _stale(engine, 1)
    (seen,) = await detection.stale(LIMITS, 100)
    await add_dlq_entry_by_hand(detection.engine.database, task, {})
    assert await detection.stale(LIMITS, 100) == []
    assert await detection.close_stale(seen, LIMITS, Reaction(False, True)) == ClosedTask(False, None)
    assert await engine.state(task) == "steps_in_process"


# What it costs


async def _pages_read(engine: Engine) -> int:
    """Return how many pages a detection reads."""
    async with rival(engine) as session:
        await session.sql("SET enable_seqscan = off")
        query = "SELECT * FROM tasker.stale_tasks_v1(%s, 100, '-infinity', '00000000-0000-0000-0000-000000000000')"
        for _ in range(2):  # the first call also reads the catalogue
            ((plan,),) = await session.sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", json.dumps(dict(LIMITS.to_json()))
            )
        top: dict[str, Any] = plan[0]["Plan"]
        assert top["Actual Rows"] == 3
        return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


@pytest.mark.own_database
async def test_finished_tasks_are_not_read(detection: Detection) -> None:
    engine = detection.engine
    await _stale(engine, 3)
    before = await _pages_read(engine)
    for table, columns in (("tasks", "task_uuid"), ("task_transitions", "task_uuid")):
        names = [
            name
            for (name,) in await engine.sql(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                "AND NOT attisdropped AND attgenerated = ''",
                f"tasker.{table}",
            )
        ]
        change = {columns: "gen_random_uuid()", "state": "'complete'", "terminal_at": "tasker.now()"}
        values = ", ".join(change.get(name, name) for name in names)
        await engine.database.execute(
            f"INSERT INTO tasker.{table} ({', '.join(names)}) SELECT {values} "
            f"FROM (SELECT * FROM tasker.{table} LIMIT 1) t, generate_series(1, 5000)"
        )
    assert await _pages_read(engine) <= before + 10
