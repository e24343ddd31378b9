"""What the database holds of a step that a worker has run, and handlers in both styles to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasker.worker import StepContext, StepHandler
from tests.support.engine import Engine
from tests.support.waiting import until

Body = Callable[[StepContext], Any]


@dataclass(frozen=True)
class Stored:
    """The one result of a step, column by column, and the state that it led to."""

    state: str
    attempt: int
    success: bool
    status: str
    result: Any
    error: Any
    metadata: Any
    orchestration: Any


async def recorded(engine: Engine, task: UUID, *, results: int) -> dict[str, Stored]:
    """Wait for so many results of a task, process them, and return them by step; the newest counts."""

    async def arrived() -> bool:
        await engine.process()
        ((count,),) = await engine.sql("SELECT count(*) FROM tasker.step_results WHERE task_uuid = %s", task)
        return bool(count >= results)

    await until(arrived, what=f"{results} results")
    await engine.process()
    rows = await engine.sql(
        "SELECT s.name, s.state, r.attempt, r.success, r.status, r.result, r.error, r.metadata, r.orchestration "
        "FROM tasker.step_results r JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE r.task_uuid = %s ORDER BY r.sort_key",
        task,
    )
    return {name: Stored(*columns) for name, *columns in rows}


def function_of(body: Body, kind: str) -> Any:
    """Return a function that does what `body` does, on the loop or in a thread."""

    async def on_the_loop(context: StepContext) -> Any:
        return body(context)

    def in_a_thread(context: StepContext) -> Any:
        return body(context)

    return on_the_loop if kind == "async" else in_a_thread


def class_of(body: Body, kind: str) -> type[StepHandler]:
    """Return a handler class that does what `body` does, on the loop or in a thread."""

    class OnTheLoop(StepHandler):
        async def call(self, context: StepContext) -> Any:
            return body(context)

    class InAThread(StepHandler):
        def call(self, context: StepContext) -> Any:
            return body(context)

    return OnTheLoop if kind == "async" else InAThread


#: Both styles of handlers, each on the loop and in a thread.
STYLES: dict[str, Callable[[Body], Any]] = {
    "async function": lambda body: function_of(body, "async"),
    "sync function": lambda body: function_of(body, "sync"),
    "async class": lambda body: class_of(body, "async"),
    "sync class": lambda body: class_of(body, "sync"),
}


async def settled(engine: Engine, *tasks: UUID) -> bool:
    """Process what was submitted; tell whether nothing more happens by itself."""
    await engine.process()
    return {await engine.state(task) for task in tasks} <= {"complete", "blocked_by_failures"}


async def run_to_the_end(engine: Engine, task: UUID) -> dict[str, Stored]:
    """Wait until a task is settled, and return the newest results of its steps."""
    await until(lambda: settled(engine, task))
    return await recorded(engine, task, results=1)
