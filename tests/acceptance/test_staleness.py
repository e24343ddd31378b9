"""Stale tasks, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasker.domain.dlq import StalenessHealth
from tasker.domain.staleness import StalenessLimits
from tasker.domain.templates.validation import parse
from tasker.persistence.operations.register import register_template
from tests.support.dynamic import split, workflow
from tests.support.engine import Engine, chain, graph
from tests.support.rivals import assert_history_is_whole
from tests.support.stuck import STUCK_STATES, Detection, content, minutes, stuck_task, template

PROBES = Path(__file__).parents[1] / "scenarios" / "templates" / "manual_checks.yaml"
BOTH = "transitioned_to_dlq_and_error"


@pytest.fixture
async def detection(any_engine: Engine) -> AsyncIterator[Detection]:
    detection = Detection(any_engine)
    yield detection
    await detection.close()


# Retries and their clock


async def test_a_task_with_only_backoff_left_waits_and_runs_again_within_a_poll(
    detection: Detection,
) -> None:
    engine = detection.engine
    await engine.freeze_clock()
    task = await engine.create(chain(1, retry={"backoff_base_ms": 60_000, "max_backoff_ms": 60_000}))
    await engine.fail(*await engine.claim())
    await engine.process()
    assert await engine.state(task) == "waiting_for_retry"
    assert await engine.timers.tick() <= 5.0  # the poll
    assert await engine.state(task) == "waiting_for_retry"
    await engine.move_clock(60)
    await engine.timers.tick()
    assert await engine.states(task) == {"s1": "enqueued"}
    assert await engine.state(task) == "steps_in_process"


async def test_age_alone_does_not_end_what_was_repaired(detection: Detection) -> None:
    """Blocked over a weekend, reset by a person, failed once more, and about to be tried again."""
    engine = detection.engine
    await engine.freeze_clock()
    task = await engine.create(chain(2, retry={"backoff_base_ms": 30_000, "max_backoff_ms": 60_000}))
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    await minutes(engine, 2 * 1440)
    await engine.operators.reset_for_retry(
        task, (await engine.steps(task))["s1"].step_uuid, performed_by="sam", reason="the line is up again"
    )
    await engine.sql("UPDATE tasker.tasks_dlq SET resolution_status = 'manually_resolved' RETURNING 1")
    await engine.fail(*await engine.claim())
    await engine.process()
    await detection.detect()
    assert await engine.state(task) == "waiting_for_retry"
    await minutes(engine, 0.5)  # the retry is due
    await detection.detect()
    assert await engine.state(task) == "waiting_for_retry"
    await minutes(engine, 1)  # and nobody sees to it
    await detection.detect()
    assert await engine.state(task) == "error"


async def test_age_alone_does_not_end_a_task_whose_result_was_just_submitted(detection: Detection) -> None:
    engine = detection.engine
    task = await engine.create(chain(3))
    await minutes(engine, 26 * 60)
    await engine.succeed(*await engine.claim())
    await detection.detect()
    await engine.process()
    assert await engine.states(task) == {"s1": "complete", "s2": "enqueued", "s3": "pending"}


async def test_an_override_of_two_hours_keeps_a_task_that_waits_for_90_minutes(
    detection: Detection,
) -> None:
    engine = detection.engine
    kept = await stuck_task(engine, "waiting_for_retry", {"max_waiting_for_retry_minutes": 120})
    lost = await stuck_task(engine, "waiting_for_retry")
    await minutes(engine, 90)
    await detection.detect()
    assert await engine.state(lost) == "error"
    assert await engine.state(kept) == "waiting_for_retry"
    await engine.timers.tick()
    assert await engine.states(kept) == {"s1": "enqueued"}
    assert await engine.states(lost) == {"s1": "waiting_for_retry"}  # steps untouched


async def test_a_retry_that_is_due_fires_whatever_the_limit(detection: Detection) -> None:
    task = await stuck_task(detection.engine, "waiting_for_retry")
    await minutes(detection.engine, 600)
    assert (await detection.of(task)).health is StalenessHealth.STALE
    await detection.engine.timers.tick()
    await detection.detect()
    assert await detection.engine.states(task) == {"s1": "enqueued"}
    await detection.engine.run(task)


async def test_waiting_for_a_retry_counts_from_when_it_is_due(detection: Detection) -> None:
    engine = detection.engine
    await engine.freeze_clock()
    task = await engine.create(
        graph(
            {"first": [], "second": []},
            retry={"backoff": "linear", "backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000},
        )
    )
    first, second = await engine.claim()
    await engine.fail(first)
    await engine.process()
    await minutes(engine, 10)
    await engine.fail(second)
    await engine.process()
    await minutes(engine, 50)  # the first is due now, the second in 10 minutes
    assert (await detection.of(task)).time_in_state_minutes == 0
    await minutes(engine, 29.99)
    assert await detection.detect() == []
    assert (await detection.of(task)).time_in_state_minutes == pytest.approx(29.99)
    await minutes(engine, 0.02)
    (event,) = await detection.detect()
    assert (event["action_taken"], event["time_in_state_minutes"]) == (BOTH, 30)


# Health


@pytest.mark.parametrize("state", STUCK_STATES)
async def test_health_at_79_80_and_100_percent(detection: Detection, state: str) -> None:
    engine = detection.engine
    await engine.freeze_clock()
    task = await stuck_task(engine, state, {f"max_{state}_minutes": 100})
    for passed, percentage, health in ((79, 79, "healthy"), (1, 80, "warning"), (19.5, 99.5, "warning")):
        await minutes(engine, passed)
        found = await detection.of(task)
        assert found.percentage == pytest.approx(percentage)
        assert found.health.value == health
        assert found.minutes_until_stale == pytest.approx(100 - percentage)
        assert await detection.detect() == []
        assert await detection.entries(task) == []  # only stale reaches the queue
    await minutes(engine, 0.5)
    found = await detection.of(task)
    assert (found.percentage, found.minutes_until_stale, found.health) == (100, 0, "stale")
    assert (found.state, found.threshold_minutes) == (state, 100)
    await detection.detect()
    assert await detection.entries(task) == [("staleness_timeout", state, "pending")]


async def test_a_limit_of_zero_is_reached_at_once(detection: Detection) -> None:
    task = await stuck_task(detection.engine)
    found = await detection.of(task, steps_in_process=0)
    assert (found.percentage, found.health) == (100, "stale")


@pytest.mark.parametrize(
    ("lifecycle", "limits", "threshold"),
    [
        (None, {}, 30),
        (None, {"steps_in_process": 45}, 45),
        ({"max_steps_in_process_minutes": 7}, {"steps_in_process": 45}, 7),
        ({"max_waiting_for_retry_minutes": 7}, {"steps_in_process": 45}, 45),
    ],
)
async def test_a_template_beats_the_settings_and_they_the_constants(
    detection: Detection, lifecycle: dict[str, int] | None, limits: dict[str, int], threshold: int
) -> None:
    task = await stuck_task(detection.engine, lifecycle=lifecycle)
    assert (await detection.of(task, **limits)).threshold_minutes == threshold


async def test_a_task_keeps_the_limits_it_started_with(detection: Detection) -> None:
    task = await stuck_task(detection.engine, lifecycle={"max_steps_in_process_minutes": 50})
    changed = parse(template({"max_steps_in_process_minutes": 5}))
    assert await register_template(detection.engine.database, changed, force_overwrite=True)
    assert (await detection.of(task)).threshold_minutes == 50


@pytest.mark.parametrize(
    ("lifecycle", "limits", "minutes_left"),
    [
        ({"max_duration_minutes": 20}, {}, 20),
        (None, {"task_max_lifetime": 25}, 25),
        ({"max_duration_minutes": 20}, {"task_max_lifetime": 25}, 20),
        ({"max_duration_minutes": 400}, {"task_max_lifetime": 25}, 30),  # that of the state comes first
    ],
)
async def test_a_task_may_be_too_old_before_it_is_too_long_in_its_state(
    detection: Detection, lifecycle: dict[str, int] | None, limits: dict[str, int], minutes_left: int
) -> None:
    task = await stuck_task(detection.engine, lifecycle=lifecycle)
    found = await detection.of(task, **limits)
    assert found.minutes_until_stale == pytest.approx(minutes_left, abs=0.1)
    await minutes(detection.engine, minutes_left - 0.1)
    assert (await detection.of(task, **limits)).health is StalenessHealth.WARNING
    assert await detection.detect(limits=StalenessLimits(**limits)) == []
    await minutes(detection.engine, 0.2)
    (event,) = await detection.detect(limits=StalenessLimits(**limits))
    assert event["action_taken"] == BOTH


async def test_monitoring_shows_stale_then_warning_then_healthy_then_longest(
    detection: Detection,
) -> None:
    engine = detection.engine
    stale = await stuck_task(engine, lifecycle={"max_steps_in_process_minutes": 20})
    await minutes(engine, 1)
    longest = await stuck_task(engine, lifecycle={"max_steps_in_process_minutes": 1000})
    await minutes(engine, 1)
    long = await stuck_task(engine, lifecycle={"max_steps_in_process_minutes": 1000})
    warning = await stuck_task(engine, "waiting_for_retry", {"max_waiting_for_retry_minutes": 25})
    await minutes(engine, 20)
    blocked = await engine.create(chain(1) | {"name": "other"})  # no state of the three: not shown
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    assert await engine.state(blocked) == "blocked_by_failures"
    shown = [row.task_uuid for row in (await detection.staleness.tasks(StalenessLimits())).rows]
    assert shown == [stale, warning, longest, long]
    page = await detection.staleness.tasks(StalenessLimits(), limit=2)
    assert [row.task_uuid for row in page.rows] == shown[:2]
    assert (page.total, page.more) == (4, True)


# Who is spared


async def test_a_task_whose_steps_move_on_is_not_stale(detection: Detection) -> None:
    """It stays in `steps_in_process` from its first step to its last."""
    engine = detection.engine
    task = await engine.create(chain(3))
    for _ in range(2):
        (step,) = await engine.claim()
        await minutes(engine, 25)
        await engine.renew([step.lease])
        await engine.succeed(step)
        assert (await detection.of(task)).health is StalenessHealth.HEALTHY  # its result waits
        assert await detection.detect() == []
        await engine.process()
    assert (await engine.steps(task))["s3"].state == "enqueued"


async def test_a_queued_step_or_a_live_lease_keeps_a_task_from_getting_stale(
    detection: Detection,
) -> None:
    engine = detection.engine
    task = await engine.create(chain(1))
    await minutes(engine, 3000)
    assert (await detection.of(task)).health is StalenessHealth.HEALTHY  # queued
    assert await detection.detect() == []
    (step,) = await engine.claim()
    assert (await detection.of(task)).health is StalenessHealth.HEALTHY  # leased
    assert await detection.detect() == []
    await engine.move_clock(31)  # the worker is gone
    assert (await detection.of(task)).health is StalenessHealth.HEALTHY  # the sweeper comes first
    assert await detection.detect() == []
    await engine.move_clock(60)
    assert (await detection.of(task)).health is StalenessHealth.STALE  # a day old, and nobody is at it
    await detection.detect()
    assert await detection.entries(task) == [("staleness_timeout", "steps_in_process", "pending")]
    assert await engine.succeed(step) == {step.step_uuid}


CHECKPOINT = (
    "UPDATE tasker.workflow_steps SET checkpoint = jsonb_build_object('timestamp', {}) WHERE name = '{}'"
)


async def _batch(engine: Engine) -> Any:
    """Create a task with two running instances of a batch whose leases have expired."""
    task = await engine.create(workflow("split: batchable", "part: batch_worker < split"))
    await engine.succeed(*await engine.claim(), result=split(2))
    await engine.process()
    assert len(await engine.claim()) == 2
    await minutes(engine, 40)
    return task


async def test_a_batch_whose_instances_all_yield_checkpoints_is_spared(detection: Detection) -> None:
    engine = detection.engine
    task = await _batch(engine)
    assert (await detection.of(task)).health is StalenessHealth.STALE  # none has a checkpoint
    await engine.database.execute(CHECKPOINT.format("tasker.now() - interval '14 minutes'", "part_001"))
    assert (await detection.of(task)).health is StalenessHealth.STALE  # one of two
    await engine.database.execute(CHECKPOINT.format("tasker.now() - interval '14 minutes'", "part_002"))
    assert (await detection.of(task)).health is StalenessHealth.HEALTHY
    assert await detection.detect() == []
    assert (await detection.of(task, checkpoint_stall=10)).health is StalenessHealth.STALE
    await minutes(engine, 2)
    (event,) = await detection.detect()
    assert event["action_taken"] == BOTH


async def test_a_finished_instance_and_an_unreadable_checkpoint_spare_nobody(
    detection: Detection,
) -> None:
    engine = detection.engine
    task = await _batch(engine)
    await engine.database.execute(CHECKPOINT.format("tasker.now()", "part_001"))
    await engine.database.execute(CHECKPOINT.format("'yesterday-ish'::text", "part_002"))
    assert (await detection.of(task)).health is StalenessHealth.STALE
    await engine.database.execute(
        "UPDATE tasker.workflow_steps SET state = 'complete' WHERE name = 'part_002'"
    )
    assert (await detection.of(task)).health is StalenessHealth.HEALTHY  # the one that runs yields
    await engine.database.execute(
        "UPDATE tasker.workflow_steps SET state = 'complete' WHERE name = 'part_001'"
    )
    assert (await detection.of(task)).health is StalenessHealth.STALE


# What is done


async def test_a_dry_run_changes_nothing(detection: Detection) -> None:
    for state in STUCK_STATES:
        await stuck_task(detection.engine, state)
    await minutes(detection.engine, 61)
    before = await content(detection.engine)
    events = await detection.detect(dry_run=True)
    assert [event["action_taken"] for event in events] == ["would_transition_to_dlq_and_error"] * 3
    clock = "tasker.clock"  # the test moves it there and back
    after = await content(detection.engine)
    assert {t: r for t, r in after.items() if t != clock} == {t: r for t, r in before.items() if t != clock}


@pytest.mark.parametrize("state", STUCK_STATES)
async def test_a_real_run_makes_one_entry_and_moves_the_task(detection: Detection, state: str) -> None:
    engine = detection.engine
    task = await stuck_task(engine, state)
    await minutes(engine, 61)
    steps = await engine.sql("SELECT s::text FROM tasker.workflow_steps s")
    (event,) = await detection.detect()
    assert event["action_taken"] == BOTH
    assert (event["task_uuid"], event["namespace"], event["task_name"]) == (str(task), "test", "workflow")
    assert (event["state"], event["time_in_state_minutes"]) == (state, 61)
    assert await engine.sql("SELECT s::text FROM tasker.workflow_steps s") == steps
    ((found, terminal, wake_at, completed),) = await engine.sql(
        "SELECT state, terminal_at IS NOT NULL, wake_at, completed_at FROM tasker.tasks"
    )
    assert (found, terminal, wake_at, completed) == ("error", True, None, None)
    ((metadata,),) = await engine.sql(
        "SELECT metadata FROM tasker.task_transitions WHERE to_state = 'error' AND from_state = %s", state
    )
    assert metadata.pop("detected_at")
    assert metadata == {"reason": "staleness_timeout", "namespace": "test", "task_name": "workflow"}
    entry = await detection.dlq.newest_of(task)
    assert entry is not None
    assert str(entry.dlq_entry_uuid) == event["dlq_entry_uuid"]
    assert entry.metadata == {
        "detection_method": "automatic_staleness",
        "time_in_state_minutes": 61,
        "threshold_minutes": 60 if state == "waiting_for_dependencies" else 30,
    }
    await assert_history_is_whole(engine, task)

    assert await detection.detect() == []  # a second instance adds nothing
    assert await detection.entries(task) == [("staleness_timeout", state, "pending")]


ACTIONS = [
    # lifecycle, settings, action, entry, state
    ({"staleness_action": "dlq"}, {}, BOTH, True, True),
    ({"staleness_action": "error"}, {}, "transitioned_to_error_only", False, True),
    ({"staleness_action": "none"}, {}, None, False, False),
    ({"auto_fail_on_timeout": False}, {}, "moved_to_dlq_only", True, False),
    ({"auto_dlq_on_timeout": False}, {}, "transitioned_to_error_only", False, True),
    ({"staleness_action": "error", "auto_dlq_on_timeout": True}, {}, BOTH, True, True),
    ({"staleness_action": "none", "auto_dlq_on_timeout": True}, {}, "moved_to_dlq_only", True, False),
    (
        {"staleness_action": "none", "auto_fail_on_timeout": True},
        {},
        "transitioned_to_error_only",
        False,
        True,
    ),
    (None, {"auto_move_to_dlq": False}, "transitioned_to_error_only", False, True),
    (None, {"auto_transition_to_error": False}, "moved_to_dlq_only", True, False),
    (None, {"auto_move_to_dlq": False, "auto_transition_to_error": False}, None, False, False),
    ({"auto_dlq_on_timeout": True}, {"auto_move_to_dlq": False}, BOTH, True, True),
    ({"auto_fail_on_timeout": True}, {"auto_transition_to_error": False}, BOTH, True, True),
]


@pytest.mark.parametrize(("lifecycle", "settings", "action", "entered", "failed"), ACTIONS)
async def test_what_follows_is_what_the_template_and_the_settings_say(
    engine: Engine,
    lifecycle: dict[str, Any] | None,
    settings: dict[str, bool],
    action: str | None,
    entered: bool,
    failed: bool,
) -> None:
    detection = Detection(engine)
    task = await stuck_task(engine, lifecycle=lifecycle)
    await minutes(engine, 31)
    would = {
        BOTH: "would_transition_to_dlq_and_error",
        "moved_to_dlq_only": "would_move_to_dlq_only",
        "transitioned_to_error_only": "would_transition_to_error_only",
    }
    dry = [event["action_taken"] for event in await detection.detect(dry_run=True, **settings)]
    assert dry == ([would[action]] if action else [])
    assert [event["action_taken"] for event in await detection.detect(**settings)] == (
        [action] if action else []
    )
    assert (await detection.entries(task) != [], await engine.state(task) == "error") == (entered, failed)
    assert [event for event in await detection.detect(**settings) if entered or failed] == []
    await detection.close()


async def test_events_can_be_left_out(detection: Detection) -> None:
    task = await stuck_task(detection.engine)
    await minutes(detection.engine, 31)
    assert await detection.detect(emit_events=False) == []
    assert await detection.engine.state(task) == "error"


# The scenario


@pytest.mark.parametrize("state", STUCK_STATES)
async def test_a_task_dated_back_becomes_stale_within_two_minutes(detection: Detection, state: str) -> None:
    document = yaml.safe_load(PROBES.read_text(encoding="utf-8"))
    task = await stuck_task(detection.engine, state, document["lifecycle"])
    await detection.engine.database.execute(
        "WITH moved AS (UPDATE tasker.task_transitions SET created_at = created_at - interval '3 minutes') "
        "UPDATE tasker.workflow_steps SET next_retry_at = next_retry_at - interval '3 minutes', "
        "updated_at = updated_at - interval '3 minutes'"
    )
    (event,) = await detection.detect()
    assert (event["state"], event["threshold_minutes"]) == (state, 2)
    assert await detection.entries(task) == [("staleness_timeout", state, "pending")]
    assert await detection.engine.state(task) == "error"


async def test_a_stale_task_resumes_when_its_step_is_completed_by_hand(detection: Detection) -> None:
    engine = detection.engine
    task = await stuck_task(engine, "waiting_for_retry")
    await minutes(engine, 31)
    await detection.detect()
    step = (await engine.steps(task))["s1"].step_uuid
    await engine.operators.complete_manually(task, step, result={}, performed_by="sam", reason="done by hand")
    assert await engine.state(task) == "complete"
    assert await detection.entries(task) == [("staleness_timeout", "waiting_for_retry", "pending")]  # 8.2
