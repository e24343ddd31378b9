"""What a person looks at first: why a task does not get on, why a step failed, who cancelled it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncCursor

from tasker.orchestration.loops.give_up import GiveUpLoop
from tasker.v1 import common_pb2, failures_pb2, steps_pb2, tasks_pb2
from tests.support.clients import Client
from tests.support.engine import Engine, chain, graph
from tests.support.faults import refuse
from tests.support.stuck import Detection, minutes, stuck_task
from tests.support.waiting import PATIENCE_SECONDS, until

State = common_pb2.TaskState
LONG = "é" * 600

#: A failure as a worker submits it.
DECLINED: dict[str, Any] = {
    "error": {
        "message": "the card was declined",
        "error_type": "payment_error",
        "retryable": False,
        "status_code": 402,
        "backtrace": ["File pay.py, line 7\n", "CardDeclined: no\n"],
    },
    "metadata": {
        "retryable": False,
        "execution_time_ms": 3,
        "error_code": "CARD_DECLINED",
        "context": {"exception_class": "CardDeclined", "traceback": "..."},
    },
}


async def in_state(client: Client, task_uuid: str, state: State.ValueType) -> tasks_pb2.Task:
    """Wait for a task's state and return the task."""

    async def arrived() -> tasks_pb2.Task | None:
        task = await client.get(task_uuid)
        return task if task.state == state else None

    found = await until(arrived, what=State.Name(state))
    assert isinstance(found, tasks_pb2.Task)
    return found


async def everywhere(client: Client, task_uuid: str) -> tasks_pb2.Task:
    """Return a task, having made sure that each call that returns it says the same."""
    task = await client.get(task_uuid)
    whole = await client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True), timeout=PATIENCE_SECONDS
    )
    listing = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    summary = await client.tasks.GetTaskSummary(
        tasks_pb2.GetTaskSummaryRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
    )
    rows: list[Any] = [row for row in listing.tasks if row.task_uuid == task_uuid]
    for said in [*rows, whole.task, summary.task]:
        assert said.HasField("failure") == task.HasField("failure")
        assert said.HasField("cancellation") == task.HasField("cancellation")
        assert (said.failure, said.cancellation) == (task.failure, task.cancellation)
    return task


async def step_of(client: Client, task_uuid: str, name: str) -> tasks_pb2.Step:
    """Return a step, having made sure that each call that returns it says the same."""
    step = (await client.list_steps(task_uuid))[name]
    request = steps_pb2.GetStepRequest(task_uuid=task_uuid, step_uuid=step.step_uuid)
    listing = await client.steps.ListSteps(
        steps_pb2.ListStepsRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS
    )
    assert (await client.steps.GetStep(request, timeout=PATIENCE_SECONDS)).step == step
    assert step in listing.steps
    return step


async def test_a_blocked_task_names_the_step_and_the_error(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task_uuid = (await client.create()).task_uuid
    (claimed,) = await engine.claim()
    await engine.fail(claimed, retryable=False, **DECLINED)
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    task = await everywhere(client, task_uuid)
    assert task.failure == failures_pb2.TaskFailure(
        cause="step_failed",
        step_uuid=str(claimed.step_uuid),
        step_name="s1",
        step_state=common_pb2.STEP_STATE_ERROR,
        attempts=1,
        max_attempts=3,
        step_failure=failures_pb2.StepFailure(
            error_type="payment_error",
            message="the card was declined",
            error_class="CardDeclined",
            error_code="CARD_DECLINED",
            retryable=False,
            status_code=402,
        ),
    )
    assert not task.HasField("cancellation")
    step = await step_of(client, task_uuid, "s1")
    expected = failures_pb2.StepFailure()
    expected.CopyFrom(task.failure.step_failure)
    expected.backtrace.extend(DECLINED["error"]["backtrace"])
    assert step.failure == expected
    assert not (await step_of(client, task_uuid, "s2")).HasField("failure")


async def test_a_task_in_backoff_says_what_is_tried_again_and_when(client: Client, engine: Engine) -> None:
    await engine.register(chain(1, retry={"backoff_base_ms": 60_000}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim())
    await in_state(client, task_uuid, State.TASK_STATE_WAITING_FOR_RETRY)
    task, step = await everywhere(client, task_uuid), await step_of(client, task_uuid, "s1")
    failure = task.failure
    assert (failure.cause, failure.step_name, failure.attempts) == ("step_retrying", "s1", 1)
    assert failure.step_state == common_pb2.STEP_STATE_WAITING_FOR_RETRY
    assert failure.next_retry_at == step.next_retry_at
    assert (failure.step_failure.message, failure.step_failure.retryable) == ("it broke", True)
    assert not failure.step_failure.HasField("error_code")
    # The attempt that comes then does not know yet how it ends: the task goes on, the step tells its last failure.
    await engine.move_clock(120)
    (again,) = await until(engine.claim)
    assert not (await everywhere(client, task_uuid)).HasField("failure")
    assert (await step_of(client, task_uuid, "s1")).failure == step.failure
    await engine.succeed(again)
    await in_state(client, task_uuid, State.TASK_STATE_COMPLETE)
    assert not (await everywhere(client, task_uuid)).HasField("failure")
    assert not (await step_of(client, task_uuid, "s1")).HasField("failure")


async def test_what_failed_for_good_comes_before_what_is_retried(client: Client, engine: Engine) -> None:
    document = graph({"a": [], "b": [], "c": []}, retry={"backoff_base_ms": 20_000})
    document["steps"][1]["retry"] = {"backoff_base_ms": 50_000}
    await engine.register(document)
    task_uuid = (await client.create()).task_uuid
    claimed = {step.name: step for step in await engine.claim()}
    await engine.fail(claimed["b"])
    await until(lambda: _failing(client, task_uuid, "b"))
    await engine.fail(claimed["a"])  # due sooner
    await until(lambda: _failing(client, task_uuid, "a"))
    await engine.fail(claimed["c"], retryable=False)
    await until(lambda: _failing(client, task_uuid, "c"))
    assert (await everywhere(client, task_uuid)).failure.cause == "step_failed"


async def _failing(client: Client, task_uuid: str, name: str) -> bool:
    return (await client.get(task_uuid)).failure.step_name == name


async def test_a_long_message_is_cut_in_the_task_and_whole_in_the_step(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    error = {"message": LONG, "error_type": "handler_error", "retryable": False}
    await engine.fail(*await engine.claim(), retryable=False, error=error)
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    assert (await everywhere(client, task_uuid)).failure.step_failure.message == LONG[:500]
    assert (await step_of(client, task_uuid, "s1")).failure.message == LONG


@pytest.mark.parametrize(
    ("more", "error_type", "message"),
    [
        ({"error": None}, "", ""),
        ({"error": None, "metadata": {"error_type": "odd", "error_code": 7}}, "odd", ""),
        ({"error": {"message": 7, "status_code": 10**12, "backtrace": "no list"}}, "handler_error", ""),
        ({"error": {"message": "m", "error_type": "t", "status_code": -1}, "metadata": {"context": []}}, "t", "m"),
    ],
)  # fmt: skip
async def test_a_failure_that_a_worker_told_badly_is_readable(
    client: Client, engine: Engine, more: dict[str, Any], error_type: str, message: str
) -> None:
    await engine.register(chain(1, retry={"max_attempts": 1}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim(), **more)
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    task, step = await everywhere(client, task_uuid), await step_of(client, task_uuid, "s1")
    for failure in (task.failure.step_failure, step.failure):
        assert (failure.error_type, failure.message) == (error_type, message)
        assert not failure.HasField("status_code")
        assert not failure.HasField("error_code")


async def test_a_lost_worker_is_told_too(client: Client, engine: Engine) -> None:
    await engine.register(chain(1, on_worker_lost="fail"))
    lost = (await client.create()).task_uuid
    await engine.claim()
    await engine.move_clock(60)
    await engine.sweep_leases(10)
    await in_state(client, lost, State.TASK_STATE_BLOCKED_BY_FAILURES)
    assert (await everywhere(client, lost)).failure.step_failure.error_type == "worker_lost"


async def test_a_result_that_cannot_be_processed_is_told_too(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await refuse(engine, "tasker.workflow_step_transitions", "NEW.to_state = 'complete'")
    await engine.succeed(*await engine.claim())
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    assert (await everywhere(client, task_uuid)).failure.step_failure.error_type == "result_processing_error"
    assert (await step_of(client, task_uuid, "s1")).failure.error_type == "result_processing_error"


async def test_a_step_that_was_reset_or_completed_has_no_failure(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": []}, retry={"max_attempts": 1}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim())
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    steps = await client.list_steps(task_uuid)
    by: dict[str, Any] = {"performed_by": "ada", "reason": "mended"}
    task, uuids = UUID(task_uuid), {name: UUID(step.step_uuid) for name, step in steps.items()}
    await engine.operators.reset_for_retry(task, uuids["a"], **by)
    assert (await everywhere(client, task_uuid)).failure.step_name == "b"
    await engine.operators.complete_manually(task, uuids["b"], result=1, **by)
    assert not (await everywhere(client, task_uuid)).HasField("failure")
    for name in ("a", "b"):
        assert not (await step_of(client, task_uuid, name)).HasField("failure")


async def test_a_cancelled_task_says_who_and_why(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": []}))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*(await engine.claim())[:1], retryable=False)
    request = tasks_pb2.CancelTaskRequest(task_uuid=task_uuid, reason="a mistake", requested_by="ada")
    answer = await client.tasks.CancelTask(request, timeout=PATIENCE_SECONDS)
    task = await everywhere(client, task_uuid)
    assert (task.cancellation.reason, task.cancellation.requested_by) == ("a mistake", "ada")
    assert task.cancellation.cancelled_at == task.updated_at
    assert not task.HasField("failure")
    assert answer.task == task


async def test_a_task_that_was_cancelled_without_a_word_says_that(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await client.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_uuid=task_uuid), timeout=PATIENCE_SECONDS)
    cancellation = (await everywhere(client, task_uuid)).cancellation
    assert cancellation.HasField("cancelled_at")
    assert not cancellation.HasField("reason")
    assert not cancellation.HasField("requested_by")


async def test_a_task_that_came_too_late_says_so(client: Client, engine: Engine) -> None:
    await engine.register(chain(1) | {"ttl": "1m"})
    task_uuid = (await client.create()).task_uuid
    await engine.move_clock(61)
    await engine.timers.tick()
    await in_state(client, task_uuid, State.TASK_STATE_CANCELLED)
    assert (await everywhere(client, task_uuid)).cancellation.reason == "ttl_expired"


async def test_a_stale_task_says_so_without_a_step(client: Client, engine: Engine) -> None:
    task_uuid = str(await stuck_task(engine, "waiting_for_dependencies"))
    await minutes(engine, 61)
    detection = Detection(engine)
    await detection.detect()
    await detection.close()
    await in_state(client, task_uuid, State.TASK_STATE_ERROR)
    task = await everywhere(client, task_uuid)
    assert task.failure == failures_pb2.TaskFailure(cause="staleness_timeout")
    assert not task.HasField("cancellation")


async def test_a_task_that_was_given_up_names_its_step_all_the_same(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.fail(*await engine.claim(), retryable=False, **DECLINED)
    await in_state(client, task_uuid, State.TASK_STATE_BLOCKED_BY_FAILURES)
    await GiveUpLoop(engine.sessions, age=timedelta(0)).tick()
    await in_state(client, task_uuid, State.TASK_STATE_ERROR)
    failure = (await everywhere(client, task_uuid)).failure
    assert (failure.cause, failure.step_name) == ("blocked_for_too_long", "s1")
    assert failure.step_failure.error_code == "CARD_DECLINED"


async def test_a_listing_asks_once_however_many_failed(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.register(chain(1))
    tasks = [(await client.create()).task_uuid for _ in range(12)]
    await engine.fail(*(await engine.claim())[:9], retryable=False)
    for task in tasks[:9]:
        await in_state(client, task, State.TASK_STATE_BLOCKED_BY_FAILURES)
    execute = AsyncCursor.execute
    asked: list[str] = []

    async def noted(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        asked.append(query if isinstance(query, str) else query.decode())
        return await execute(cursor, query, *args, **more)

    monkeypatch.setattr(AsyncCursor, "execute", noted)
    listing = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    assert sum(task.HasField("failure") for task in listing.tasks) == 9
    assert sum("step_results" in statement for statement in asked) == 1
