"""What people see of messages that nobody could handle: records, and warnings of what was dropped."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from tasker.messaging.queues import JUDGEMENTS_QUEUE, RESULTS_QUEUE, worker_queue
from tasker.persistence.reading.poison import PoisonCounts, PoisonReader
from tests.support.engine import NAMESPACE, Engine, chain
from tests.support.faults import poison, send_by_hand
from tests.support.rivals import rival

UNKNOWN = "messages of queue {} name steps that do not exist; they are dropped"
WORKERS = worker_queue(NAMESPACE)


async def _poison(engine: Engine, message: object) -> None:
    msg_id = await send_by_hand(engine, RESULTS_QUEUE, message)
    assert await engine.orchestration.record_poison(RESULTS_QUEUE, msg_id, "ValueError: odd")


def _naming(task: UUID) -> dict[str, str]:
    return {"v": "1", "task_uuid": str(task), "step_uuid": str(uuid4())}


async def test_the_newest_records_come_first(any_engine: Engine) -> None:
    reader = PoisonReader(any_engine.database)
    assert await reader.newest() == []
    task = await any_engine.create(chain(1))
    first, last = _naming(task), _naming(task)
    messages = [{"n": 0}, first, ["n", 2], last]
    for message in messages:
        await _poison(any_engine, message)
    assert [record.message for record in await reader.newest()] == messages[::-1]
    assert [record.message for record in await reader.newest(limit=2)] == messages[:1:-1]
    of_task = await reader.newest(task_uuid=task)
    assert [record.message for record in of_task] == [last, first]
    newest = of_task[0]
    assert (newest.queue, newest.error) == (RESULTS_QUEUE, "ValueError: odd")
    assert (newest.task_uuid, str(newest.step_uuid)) == (task, last["step_uuid"])
    assert await reader.newest(task_uuid=uuid4()) == []


async def test_they_are_counted_by_the_hour_and_by_the_day(any_engine: Engine) -> None:
    reader = PoisonReader(any_engine.database)
    assert await reader.counts() == PoisonCounts(0, 0)
    for hours in (20, 5, 0):
        await _poison(any_engine, {})
        await any_engine.move_clock(hours * 3600)
    assert await reader.counts() == PoisonCounts(last_hour=1, last_day=2)


@pytest.mark.parametrize("queue", [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
async def test_a_message_that_names_an_unknown_task_is_dropped_with_a_warning(
    engine: Engine, queue: str
) -> None:
    message = _naming(uuid4())
    await send_by_hand(engine, queue, message)
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await (engine.succeed(step) if queue == RESULTS_QUEUE else engine.fail(step, retryable=False))
    with capture_logs() as logs:
        await engine.results.tick()
        await engine.judgements.tick()
    assert await engine.messages(queue) == 0
    assert await engine.state(task) in ("complete", "blocked_by_failures")
    (warning,) = (log for log in logs if log["event"] == "database_warning")
    assert (warning["log_level"], warning["message"]) == ("warning", UNKNOWN.format(queue))
    assert warning["detail"] == f"task {message['task_uuid']} step {message['step_uuid']}"
    assert await poison(engine) == []


@pytest.mark.parametrize("queue", [RESULTS_QUEUE, JUDGEMENTS_QUEUE])
async def test_a_result_of_an_unknown_step_is_dropped_with_a_warning(engine: Engine, queue: str) -> None:
    task = await engine.create(chain(1))
    await send_by_hand(engine, queue, _naming(task))
    with capture_logs() as logs:
        await engine.results.tick()
        await engine.judgements.tick()
    assert [log["message"] for log in logs] == [UNKNOWN.format(queue)]
    await engine.run(task)


async def test_a_worker_drops_a_message_of_an_unknown_step_with_a_warning(engine: Engine) -> None:
    task = await engine.create(chain(1))
    await send_by_hand(engine, WORKERS, _naming(uuid4()))
    with capture_logs() as logs:
        assert [step.task_uuid for step in await engine.claim()] == [task]
    assert [log["message"] for log in logs] == [UNKNOWN.format(WORKERS)]
    assert await engine.messages(WORKERS) == 0


async def test_nothing_is_said_of_messages_that_are_late_or_busy(engine: Engine) -> None:
    task = await engine.create(chain(1))
    (step,) = await engine.claim()
    await engine.succeed(step)
    for queue in (RESULTS_QUEUE, JUDGEMENTS_QUEUE, WORKERS):
        await send_by_hand(engine, queue, {"v": 1, "task_uuid": str(task), "step_uuid": str(step.step_uuid)})
    with capture_logs() as logs:
        async with rival(engine) as other:
            await other.lock("tasks", task)
            await engine.results.tick()
            await engine.judgements.tick()
        await engine.claim()
        await engine.move_clock(1)
        await engine.process()
    assert await engine.state(task) == "complete"
    assert logs == []
