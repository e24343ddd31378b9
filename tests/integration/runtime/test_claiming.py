"""What a worker takes, what it puts back, and what it takes out of the way."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasker.worker import HandlerRegistry
from tasker.worker.runtime.templates import TemplateDirectoryError
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain, graph
from tests.support.waiting import until
from tests.support.workshop import Workshop


async def settled(engine: Engine, *tasks: UUID) -> bool:
    """Process what was submitted; tell whether nothing more happens by itself."""
    await engine.process()
    return {await engine.state(task) for task in tasks} <= {"complete", "blocked_by_failures"}


async def send(engine: Engine, **message: object) -> None:
    """Put a message of our own making into the worker queue."""
    await engine.sql("SELECT pgmq.send('worker_test_queue', %s::text::jsonb)", json.dumps(message))


# One message, one execution


async def test_two_workers_and_one_message_make_one_execution(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    other = Workshop()
    await engine.register(chain(1))
    await start_worker(chain(1))
    await start_worker(chain(1), registry=other.registry)
    tasks = [await engine.create(chain(1)) for _ in range(20)]
    await until(lambda: settled(engine, *tasks))
    steps = [context.step_uuid for context in (*workshop.calls, *other.calls)]
    assert len(steps) == len(set(steps)) == 20
    assert await engine.messages("worker_test_queue") == 0  # nothing to deliver again


async def test_a_message_delivered_twice_runs_the_step_once(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    task = await engine.create(chain(1))
    step = (await engine.steps(task))["s1"].step_uuid
    for _ in range(3):
        await send(engine, v=1, task_uuid=str(task), step_uuid=str(step))
    await start_worker(chain(1))
    await until(lambda: settled(engine, task))

    async def drained() -> bool:
        return await engine.messages("worker_test_queue") == 0

    await until(drained)
    assert len(workshop.calls) == 1


# Poison


async def test_messages_that_nobody_can_claim_are_put_aside(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    first = await engine.create(chain(1))
    await send(engine, v=1, task_uuid="nonsense", step_uuid="nonsense")
    await send(engine, v=1, task_uuid=str(uuid4()), step_uuid=str(uuid4()))  # nobody's: dropped
    await send(engine)
    second = await engine.create(chain(1))
    await start_worker(chain(1))
    await until(lambda: settled(engine, first, second))
    assert {await engine.state(first), await engine.state(second)} == {"complete"}

    async def recorded() -> bool:
        return await engine.messages("worker_test_queue") == 0

    await until(recorded)
    rows = await engine.sql(
        "SELECT queue, message ->> 'task_uuid', error FROM tasker.poison_messages ORDER BY msg_id"
    )
    assert [(queue, task) for queue, task, _ in rows] == [
        ("worker_test_queue", "nonsense"),
        ("worker_test_queue", None),
    ]
    assert "uuid" in rows[0][2]
    assert "does not name a task and a step" in rows[1][2]


@pytest.mark.own_database
async def test_a_step_that_cannot_be_claimed_fails_and_holds_nobody_up(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    document = graph({"a": [], "cursed": [], "c": []})
    task = await engine.create(document)
    cursed = (await engine.steps(task))["cursed"].step_uuid
    async with engine.database.connection() as connection:
        await connection.execute(f"ALTER TABLE tasker.step_leases ADD CHECK (step_uuid <> '{cursed}')")
    await start_worker(document)
    await until(lambda: settled(engine, task))
    assert await engine.states(task) == {"a": "complete", "cursed": "error", "c": "complete"}
    assert await engine.state(task) == "blocked_by_failures"  # not hanging
    ((reason,),) = await engine.sql(
        "SELECT metadata ->> 'reason' FROM tasker.workflow_step_transitions "
        "WHERE step_uuid = %s AND to_state = 'error'",
        cursed,
    )
    assert reason.startswith("result_processing_error: ")
    ((recorded,),) = await engine.sql("SELECT step_uuid FROM tasker.poison_messages")
    assert recorded == cursed
    assert {context.step_name for context in workshop.calls} == {"a", "c"}


# Missing handlers


async def refusals(engine: Engine) -> int:
    """Return how often the one message was put back."""
    rows = await engine.sql("SELECT (message ->> 'refusals')::integer FROM pgmq.q_worker_test_queue")
    return int(rows[0][0] or 0) if rows else 0


async def test_a_step_whose_handler_is_missing_waits_for_a_worker_that_has_it(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    """A rolling deploy: old workers know the template's queue, and not its new handler."""
    document = chain(1)
    task = await engine.create(document)
    await start_worker(document, registry=HandlerRegistry())
    await until(lambda: refusals(engine))
    step = (await engine.steps(task))["s1"]
    assert (step.state, step.attempts) == ("enqueued", 0)
    await start_worker(document)  # the new one
    await engine.move_clock(31)  # longer than a refusal's longest delay
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"
    assert [context.attempt for context in workshop.calls] == [1]


async def test_a_refused_message_comes_back_later_each_time(
    engine: Engine, start_worker: StartWorker
) -> None:
    await engine.create(chain(1))
    await start_worker(chain(1), registry=HandlerRegistry())
    delays = []
    for times in range(1, 5):

        async def refused(times: int = times) -> bool:
            return await refusals(engine) == times

        await until(refused)
        ((delay,),) = await engine.sql(
            "SELECT extract(epoch FROM vt - tasker.now())::float FROM pgmq.q_worker_test_queue"
        )
        delays.append(delay)
        await engine.move_clock(delay)
    assert [round(delay) for delay in delays] == sorted({round(delay) for delay in delays})
    assert delays[0] <= 1 < delays[-1] <= 8


async def test_a_handler_missing_for_too_long_is_a_permanent_error(
    engine: Engine, start_worker: StartWorker
) -> None:
    task = await engine.create(chain(1))
    await start_worker(chain(1), registry=HandlerRegistry(), refusal_limit_seconds=120)
    await until(lambda: refusals(engine))
    await engine.move_clock(100)
    await until(lambda: _at_least(engine, 2))
    assert (await engine.states(task))["s1"] == "enqueued"
    await engine.move_clock(31)
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "blocked_by_failures"
    ((error, attempt),) = await engine.sql("SELECT error, attempt FROM tasker.step_results")
    assert (error["error_type"], error["retryable"], attempt) == ("handler_not_found", False, 1)
    assert "'work'" in error["message"]


async def _at_least(engine: Engine, times: int) -> bool:
    return await refusals(engine) >= times


async def test_a_handler_that_a_live_worker_offers_is_never_given_up(
    engine: Engine, start_worker: StartWorker
) -> None:
    async def announce() -> None:  # a worker whose slots are all taken
        await engine.register_worker(
            hostname="elsewhere", version="1", namespaces=["test"], handlers=["work"], slots=1
        )

    task = await engine.create(chain(1))
    await announce()  # before the one that lacks the handler, which would give the step up at its first claim
    await start_worker(chain(1), registry=HandlerRegistry(), refusal_limit_seconds=0)
    for times in (1, 2, 3):
        await until(lambda times=times: _at_least(engine, times))  # type: ignore[misc]
        await engine.move_clock(31)
        await announce()
    assert (await engine.states(task))["s1"] == "enqueued"
    await engine.move_clock(91)  # it is silent for too long now
    await until(lambda: settled(engine, task))
    ((error,),) = await engine.sql("SELECT error ->> 'error_type' FROM tasker.step_results")
    assert error == "handler_not_found"


# The template directory


async def test_one_broken_file_does_not_stop_a_worker(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, tmp_path: Path
) -> None:
    documents = [chain(1) | {"name": f"workflow_{n}"} for n in range(9)]
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "broken.yaml").write_text("name: [unclosed\n")
    worker = await start_worker(*documents)
    assert worker.registration.total_files == 10
    assert len(worker.registration.templates) == 9
    assert len(worker.registration.errors) == 1
    assert "broken.yaml" in worker.registration.errors[0]
    task = await engine.create(documents[7])
    await until(lambda: settled(engine, task))
    assert await engine.state(task) == "complete"


async def test_a_missing_template_directory_is_told(start_worker: StartWorker, tmp_path: Path) -> None:
    with pytest.raises(TemplateDirectoryError, match="does not exist"):
        await start_worker(chain(1), template_path=tmp_path / "nowhere")


async def test_a_template_in_use_is_not_changed_and_still_served(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    task = await engine.create(chain(2))
    worker = await start_worker(chain(3))  # same version, other content
    assert len(worker.registration.errors) == 1
    assert "unfinished tasks: 1" in worker.registration.errors[0]
    await until(lambda: settled(engine, task))
    assert await engine.states(task) == {"s1": "complete", "s2": "complete"}
