"""Calls whose caller has gone, or whose time is up: the database works no longer for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from grpc import StatusCode, aio

from tasker.v1 import steps_pb2, tasks_pb2
from tests.support.clients import Client
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until

Call = Callable[[Client, str, float], "aio.UnaryUnaryCall[Any, Any]"]

CALLS: dict[str, Call] = {
    "GetTask": lambda client, task, timeout: client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task), timeout=timeout
    ),
    "GetTask with steps": lambda client, task, timeout: client.tasks.GetTask(
        tasks_pb2.GetTaskRequest(task_uuid=task, include_steps=True), timeout=timeout
    ),
    "ListTasks": lambda client, task, timeout: client.tasks.ListTasks(
        tasks_pb2.ListTasksRequest(), timeout=timeout
    ),
    "ListSteps": lambda client, task, timeout: client.steps.ListSteps(
        steps_pb2.ListStepsRequest(task_uuid=task), timeout=timeout
    ),
    "CancelTask": lambda client, task, timeout: client.tasks.CancelTask(
        tasks_pb2.CancelTaskRequest(task_uuid=task), timeout=timeout
    ),
}


@pytest.fixture
async def blocked(engine: Engine, client: Client, database_url: str) -> AsyncIterator[tuple[str, Any]]:
    """A task whose tables nobody else can use, and who counts those that wait for them."""
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    async with (
        await psycopg.AsyncConnection.connect(database_url) as blocker,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as observer,
    ):
        await blocker.execute("LOCK TABLE tasker.tasks, tasker.workflow_steps IN ACCESS EXCLUSIVE MODE")
        pid = blocker.info.backend_pid

        async def waiting() -> int:
            """Count the calls of clients that wait; the loops of the service wait, too, in sessions of their own."""
            cursor = await observer.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND %s = ANY (pg_blocking_pids(pid)) "
                "AND query ~ '(Steps of a task|Tasks with|How many tasks|SELECT total_steps|cancel_open_tasks)'",
                (pid,),
            )
            ((count,),) = await cursor.fetchall()
            return int(count)

        yield task, waiting
        await blocker.rollback()


@pytest.mark.parametrize("name", CALLS)
async def test_a_caller_who_leaves_takes_the_statement_along(
    client: Client, blocked: tuple[str, Any], name: str
) -> None:
    task, waiting = blocked
    call = CALLS[name](client, task, PATIENCE_SECONDS)
    await until(lambda: _is(waiting, 1), what="the call waits in the database")
    call.cancel()
    await until(lambda: _is(waiting, 0), what="nothing waits")


@pytest.mark.parametrize("name", CALLS)
async def test_a_deadline_ends_the_statement(client: Client, blocked: tuple[str, Any], name: str) -> None:
    task, waiting = blocked
    call = CALLS[name](client, task, 3)
    await until(lambda: _is(waiting, 1), what="the call waits in the database")
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    await until(lambda: _is(waiting, 0), what="nothing waits")


async def _is(waiting: Callable[[], Any], count: int) -> bool:
    return bool(await waiting() == count)
