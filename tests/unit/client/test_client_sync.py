"""The client without asyncio: the same methods, from any thread, interrupted and closed at any time."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest

from tasker.client import StepUpdate, SyncTaskerClient, TaskerClient, TaskState, UnavailableError
from tasker.client.bridge import LoopThread
from tasker.domain import errors
from tasker.rpc.server import build_server
from tasker.v1 import common_pb2, tasks_pb2
from tests.unit.client.scripted import TASK, Script, fails, played, registrations, sends, task_message

Answer = TypeVar("Answer")

FOUND = sends(tasks_pb2.GetTaskResponse(task=task_message()))
BUSY = fails(errors.UnavailableError("too busy", retry_after_seconds=0))
MOVED = tasks_pb2.TaskStatusUpdate(
    update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_STATE_CHANGE,
    task_state=common_pb2.TASK_STATE_STEPS_IN_PROCESS,
)
DONE = tasks_pb2.TaskStatusUpdate(
    update_type=tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE,
    task_state=common_pb2.TASK_STATE_COMPLETE,
)


async def elsewhere(work: Callable[[], Answer]) -> Answer:
    """Do some blocking work where it does not stop the service, which runs on the test's event loop."""
    return await asyncio.to_thread(work)


def methods(client: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(client)
        if not name.startswith("_") and callable(member)
    }


def test_both_clients_have_the_same_methods() -> None:
    ours, theirs = methods(SyncTaskerClient), methods(TaskerClient)
    assert "create" in ours
    assert ours.keys() == theirs.keys()
    del ours["close"], theirs["close"]
    assert ours == theirs
    assert inspect.signature(SyncTaskerClient) == inspect.signature(TaskerClient)
    for name in theirs:
        assert inspect.getdoc(getattr(SyncTaskerClient, name)) == inspect.getdoc(getattr(TaskerClient, name))


def groups(client: object) -> dict[str, object]:
    return {name: group for name, group in vars(client).items() if not name.startswith("_")}


def test_both_clients_have_the_same_groups_of_methods() -> None:
    ours, theirs = groups(SyncTaskerClient("127.0.0.1:1")), groups(TaskerClient("127.0.0.1:1"))
    assert "dlq" in ours
    assert ours.keys() == theirs.keys()
    for name, group in ours.items():
        assert methods(type(group)) == methods(type(theirs[name])) != {}


async def test_it_calls_and_repeats_as_the_async_one_does() -> None:
    def work(address: str) -> UUID:
        with SyncTaskerClient(address) as client:
            return client.get(TASK).task_uuid

    async with played(BUSY, FOUND) as (address, script):
        assert await elsewhere(lambda: work(address)) == TASK
    assert len(script.requests) == 2


async def test_what_the_call_raises_is_raised() -> None:
    def work(address: str) -> None:
        with SyncTaskerClient(address) as client, pytest.raises(UnavailableError, match="too busy"):
            client.create("shop", "checkout")

    async with played(BUSY) as (address, _):
        await elsewhere(lambda: work(address))


async def test_it_iterates_over_pages() -> None:
    pages = [
        tasks_pb2.ListTasksResponse(
            tasks=[task_message(name=name)], pagination=common_pb2.PaginationResponse(next_page_token=token)
        )
        for name, token in (("a", "t1"), ("b", None))
    ]

    def work(address: str) -> list[str]:
        with SyncTaskerClient(address) as client:
            return [task.name for task in client.list(namespace="shop")]

    async with played(*map(sends, pages)) as (address, script):
        assert await elsewhere(lambda: work(address)) == ["a", "b"]
    assert [request.pagination.page_token for request in script.requests] == ["", "t1"]


async def test_it_watches_and_waits() -> None:
    def work(address: str) -> tuple[list[TaskState], TaskState]:
        with SyncTaskerClient(address) as client:
            states = [u.state for u in client.watch(TASK) if not isinstance(u, StepUpdate)]
            return states, client.wait(TASK).state

    complete = sends(tasks_pb2.GetTaskResponse(task=task_message(state=common_pb2.TASK_STATE_COMPLETE)))
    async with played(sends(MOVED, DONE), sends(DONE), complete) as (address, _):
        states, state = await elsewhere(lambda: work(address))
    assert states == [TaskState.STEPS_IN_PROCESS, TaskState.COMPLETE]
    assert state is TaskState.COMPLETE


async def test_an_iteration_may_be_left() -> None:
    """Before its end, and even when its client is gone."""

    def work(address: str) -> None:
        with SyncTaskerClient(address) as client:
            for _ in client.watch(TASK):
                break
            updates = client.watch(TASK)
            next(updates)
        updates.close()

    async with played(sends(MOVED, DONE)) as (address, _):
        await elsewhere(lambda: work(address))


async def test_threads_share_a_client() -> None:
    def work(address: str) -> set[UUID]:
        with SyncTaskerClient(address) as client, ThreadPoolExecutor(8) as pool:
            return {task.task_uuid for task in pool.map(lambda _: client.get(TASK), range(64))}

    async with played(FOUND) as (address, script):
        assert await elsewhere(lambda: work(address)) == {TASK}
    assert len(script.requests) == 64


async def test_clients_of_several_threads_run_side_by_side() -> None:
    def work(address: str) -> UUID:
        with SyncTaskerClient(address) as client:
            return [client.get(TASK) for _ in range(20)][-1].task_uuid

    async with played(FOUND) as (address, _), TaskerClient(address) as client:
        threads = [elsewhere(lambda: work(address)) for _ in range(4)]
        found = await asyncio.gather(client.get(TASK), *threads)
    assert found[1:] == [TASK] * 4


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/tasker.sock"

    def work() -> UUID:
        with SyncTaskerClient(address) as client:
            return client.get(TASK).task_uuid

    async with build_server(address, services=list(registrations(Script([FOUND])))):
        assert await elsewhere(work) == TASK
        async with TaskerClient(address) as client:
            assert (await client.get(TASK)).task_uuid == TASK


def test_a_closed_client_says_so() -> None:
    client = SyncTaskerClient("127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get(TASK)
    with pytest.raises(RuntimeError, match="closed"):
        next(client.watch(TASK))


async def test_closing_ends_the_calls_of_other_threads() -> None:
    async with played(sends(MOVED)) as (address, script):
        client = SyncTaskerClient(address)
        waiting = asyncio.create_task(elsewhere(lambda: client.wait(TASK)))
        await asyncio.wait_for(script.called.wait(), 30)
        await elsewhere(client.close)
        with pytest.raises(RuntimeError, match="closed"):
            await asyncio.wait_for(waiting, 30)
    assert not [thread for thread in threading.enumerate() if thread.name == "tasker-client"]


def test_work_that_is_no_call_ends_with_its_loop_too() -> None:
    """Such as a pause between two attempts, for which nothing at the service is waiting."""
    thread = LoopThread()
    pause = thread.submit(asyncio.sleep(3600))
    thread.stop()
    assert pause.cancelled()


INTERRUPTED = """
import sys
from tasker.client import SyncTaskerClient

with SyncTaskerClient(sys.argv[1]) as client:
    try:
        for update in client.watch(sys.argv[2]):
            print("watching", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


async def test_ctrl_c_ends_a_call() -> None:
    async with played(sends(MOVED)) as (address, _):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", INTERRUPTED, address, str(TASK),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"watching\n"
        process.send_signal(2)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert out.endswith(b"interrupted\n")
    assert err == b""


def test_a_forgotten_client_does_not_keep_a_program_from_ending() -> None:
    program = (
        "from tasker.client import SyncTaskerClient, UnavailableError\n"
        "client = SyncTaskerClient('127.0.0.1:1', timeout_seconds=0.1)\n"
        "try:\n    client.get('x')\nexcept UnavailableError:\n    print('bye')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
