"""AnalyticsService: what it tells of tasks that came and went, what it refuses, and what it keeps."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode

from tasker.orchestration.service import OrchestrationService
from tasker.persistence.database import PoolUsage
from tasker.v1 import analytics_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, failure, success
from tests.support.waiting import PATIENCE_SECONDS, until

Metrics = analytics_pb2.GetPerformanceMetricsResponse
Analysis = analytics_pb2.GetBottleneckAnalysisResponse


async def metrics(client: Client, **fields: Any) -> Metrics:
    request = analytics_pb2.GetPerformanceMetricsRequest(**fields)
    return await client.analytics.GetPerformanceMetrics(request, timeout=PATIENCE_SECONDS)


async def analysis(client: Client, **fields: Any) -> Analysis:
    request = analytics_pb2.GetBottleneckAnalysisRequest(**fields)
    return await client.analytics.GetBottleneckAnalysis(request, timeout=PATIENCE_SECONDS)


async def _run(
    engine: Engine, count: int, *, milliseconds: int, name: str = "workflow", fails: int = 0
) -> None:
    """Run so many tasks of one step; the first ones fail for good."""
    tasks = [await engine.create(chain(1) | {"name": name}) for _ in range(count)]
    steps = {step.task_uuid: step for step in await engine.claim()}
    metadata = {"execution_time_ms": milliseconds}
    await engine.submit(
        [
            failure(steps[task], retryable=False, metadata=metadata)
            if number < fails
            else success(steps[task], {}, metadata=metadata)
            for number, task in enumerate(tasks)
        ]
    )
    for number, task in enumerate(tasks):
        wanted = "blocked_by_failures" if number < fails else "complete"

        async def reached(task: Any = task, wanted: str = wanted) -> bool:
            return await engine.state(task) == wanted

        await until(reached)


async def test_an_empty_database_is_all_well(client: Client) -> None:
    answer = await metrics(client)
    assert (answer.total_tasks, answer.tasks_per_hour, answer.error_rate, answer.completion_rate) == (
        0,
        0,
        0,
        0,
    )
    assert answer.system_health_score == 1
    assert not answer.is_partial
    found = await analysis(client)
    assert (len(found.slow_steps), len(found.slow_tasks), len(found.recommendations)) == (0, 0, 0)
    assert found.HasField("resource_utilization")
    assert found.resource_utilization.HasField("system_health")  # what clients insist on
    assert found.resource_utilization.system_health.total_tasks == 0


async def test_metrics_tell_what_became_of_tasks(client: Client, engine: Engine) -> None:
    await _run(engine, 6, milliseconds=500)
    await _run(engine, 2, milliseconds=1500, name="fragile", fails=2)
    await engine.create(chain(1))
    answer = await metrics(client)
    assert (answer.total_tasks, answer.completed_tasks, answer.failed_tasks, answer.active_tasks) == (
        9,
        6,
        2,
        3,
    )
    assert answer.completion_rate == pytest.approx(6 / 9)
    assert answer.error_rate == pytest.approx(2 / 9)
    assert answer.average_step_duration_seconds == pytest.approx(0.75)
    assert answer.average_task_duration_seconds > 0
    assert answer.system_health_score == pytest.approx((1 - 2 / 9) * (1 - 2 / 8))
    period = datetime.fromisoformat(answer.calculated_at) - datetime.fromisoformat(
        answer.analysis_period_start
    )
    assert period == timedelta(hours=24)
    assert (answer.tasks_per_hour, answer.steps_per_hour) == (round(9 / 24), round(8 / 24))


async def test_metrics_are_of_the_hours_that_were_asked_for(client: Client, engine: Engine) -> None:
    await _run(engine, 3, milliseconds=10)
    await engine.move_clock(2 * 3600)
    await _run(engine, 2, milliseconds=10)
    assert (await metrics(client, hours=1)).total_tasks == 2
    assert (await metrics(client, hours=3)).total_tasks == 5
    ever = await metrics(client, hours=0)
    assert ever.total_tasks == 5
    begin, end = map(datetime.fromisoformat, (ever.analysis_period_start, ever.calculated_at))
    assert timedelta(hours=2) <= end - begin < timedelta(hours=3)  # since the first of them
    assert ever.tasks_per_hour == round(5 / ((end - begin) / timedelta(hours=1)))


async def test_some_minutes_are_not_stretched_to_an_hour(client: Client, engine: Engine) -> None:
    await _run(engine, 3, milliseconds=10)
    assert (await metrics(client, hours=0)).tasks_per_hour == 3


async def test_the_slowest_come_first(client: Client, engine: Engine) -> None:
    await _run(engine, 5, milliseconds=100, name="quick")
    await _run(engine, 5, milliseconds=2000, name="slow", fails=1)
    await _run(engine, 4, milliseconds=9000, name="rare")
    found = await analysis(client)
    assert [step.task_name for step in found.slow_steps] == ["slow", "quick"]
    slow = found.slow_steps[0]
    assert (slow.namespace_name, slow.version, slow.step_name) == ("test", "1.0.0", "s1")
    assert (slow.average_duration_seconds, slow.max_duration_seconds) == (2, 2)
    assert (slow.execution_count, slow.error_count) == (5, 1)
    assert slow.error_rate == pytest.approx(0.2)
    assert datetime.fromisoformat(slow.last_executed_at).tzinfo is not None
    assert {task.task_name for task in found.slow_tasks} == {"slow", "quick"}
    task = next(task for task in found.slow_tasks if task.task_name == "slow")
    assert (task.execution_count, task.error_count, task.average_step_count) == (5, 1, 1)
    assert [step.task_name for step in (await analysis(client, min_executions=0)).slow_steps] == [
        "rare", "slow", "quick",
    ]  # fmt: skip
    assert len((await analysis(client, min_executions=4, limit=1)).slow_steps) == 1


async def test_states_are_counted_old_open_tasks_included(client: Client, engine: Engine) -> None:
    await engine.create(chain(2) | {"name": "old"})
    assert len(await engine.claim()) == 1
    await engine.move_clock(1000 * 3600)
    await _run(engine, 2, milliseconds=10)
    health = (await analysis(client)).resource_utilization.system_health
    assert (health.steps_in_process_tasks, health.complete_tasks, health.total_tasks) == (1, 2, 3)
    assert (health.pending_steps, health.in_progress_steps, health.complete_steps) == (1, 1, 2)
    assert health.total_steps == 4


async def test_hints_name_what_a_person_might_look_at(
    orchestration: OrchestrationService, client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _run(engine, 5, milliseconds=31_000, name="slow", fails=2)
    monkeypatch.setattr(
        orchestration._orchestrator.analytics, "_usage", lambda: PoolUsage(9, 1, 10, 100, 5, 0, 50)
    )
    found = await analysis(client)
    errors, pool, slow = found.recommendations
    assert errors.startswith("40% of the executions fail")
    assert pool.startswith("90% of this service's pooled connections are in use")
    assert slow.startswith("step 's1' of test/slow:1.0.0 takes 31 s on average")
    assert found.resource_utilization.database_pool_utilization == pytest.approx(0.9)


async def test_an_answer_is_kept(client: Client, engine: Engine) -> None:
    first = await metrics(client)
    await _run(engine, 1, milliseconds=10)
    assert await metrics(client) == first
    assert (await metrics(client, hours=1)).total_tasks == 1  # another question
    before = await analysis(client, min_executions=1)
    await _run(engine, 1, milliseconds=10)
    assert await analysis(client, min_executions=1) == before


async def test_what_is_out_of_range_is_refused_by_name(client: Client) -> None:
    for call, field in (
        (metrics(client, hours=-1), "hours"),
        (metrics(client, hours=24 * 366 + 1), "hours"),
        (analysis(client, limit=0), "limit"),
        (analysis(client, limit=1001), "limit"),
        (analysis(client, min_executions=-1), "min_executions"),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {field})


async def test_one_that_takes_too_long_ends_with_its_deadline(
    orchestration: OrchestrationService, client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that nobody gives back: the database's work ends with the call."""
    kept = orchestration._orchestrator.analytics._performance
    monkeypatch.setattr(kept, "_timeout_seconds", 0.2)
    async with engine.database.transaction() as transaction:
        await transaction.execute("LOCK TABLE tasker.tasks IN ACCESS EXCLUSIVE MODE")
        refusal = await refused(metrics(client))
        assert refusal.code is StatusCode.DEADLINE_EXCEEDED

        async def nobody_waits() -> bool:
            ((waiting,),) = await engine.sql(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE starts_with(query, '-- What became of') AND state = 'active'"
            )
            return not waiting

        await until(nobody_waits)
    assert (await metrics(client)).total_tasks == 0
