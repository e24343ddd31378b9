"""What is measured: latency and throughput of four-step chains, throughput of a batch, and creating alone."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import grpc
import psycopg

from tasker.domain.uuids import uuid7
from tasker.v1 import tasks_pb2, tasks_pb2_grpc

STEPS = 4
INSTANCES = 1000
IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from submit to done."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Took:
    """How long a task took: until its creation was answered, and until its end was seen."""

    create_ms: float
    until_done_ms: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Steps a second from the first create (or claim) to the last completion."""

    steps_per_s: float


@dataclass(frozen=True, slots=True)
class Creations:
    """Tasks created a second, and milliseconds until one is answered."""

    tasks_per_s: float
    p50_ms: float


async def chain_latency(address: str, *, tasks: int) -> Latency:
    """One task at a time: create it and watch it to the end."""
    milliseconds = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        for number in range(tasks + 10):
            took = await run_one(stub, "chain", number)
            if number >= 10:  # the first ones warm caches and plans
                milliseconds.append(took.until_done_ms)
    return Latency(statistics.median(milliseconds), statistics.quantiles(milliseconds, n=20)[-1])


async def chain_throughput(address: str, database_url: str, *, tasks: int) -> Throughput:
    """Create tasks one by one with 32 calls in flight while the worker runs them."""
    since = moment()
    started = time.perf_counter()
    await _create(address, tasks)
    await _until_completed(database_url, tasks, since)
    return Throughput(tasks * STEPS / (time.perf_counter() - started))


async def drain_throughput(
    address: str, database_url: str, *, tasks: int, run_worker: Callable[[], Awaitable[object]]
) -> Throughput:
    """Create a backlog while no worker runs, then start one and take the time from the first claim."""
    since = moment()
    await _create(address, tasks)
    await run_worker()
    await _until_completed(database_url, tasks, since)
    first, last = await span(database_url, since)
    return Throughput(tasks * STEPS / (last - first))


async def batch_throughput(address: str, *, tasks: int) -> Throughput:
    """One task at a time, each of which splits its work into a thousand instances and joins them."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        started = time.perf_counter()
        for number in range(tasks):
            await run_one(stub, "wide", number)
    return Throughput(tasks * INSTANCES / (time.perf_counter() - started))


async def create_latency(address: str, *, tasks: int) -> Latency:
    """One client, one call at a time, no worker."""
    milliseconds = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        for number in range(tasks + 10):
            started = time.perf_counter()
            await stub.CreateTask(_request("chain", number))
            if number >= 10:  # the first ones warm caches and plans
                milliseconds.append((time.perf_counter() - started) * 1000)
    return Latency(statistics.median(milliseconds), statistics.quantiles(milliseconds, n=20)[-1])


async def create_throughput(address: str, *, tasks: int) -> Creations:
    """As many clients as there are calls in flight elsewhere, each with a connection of its own, no worker."""
    numbers = iter(range(tasks))
    milliseconds: list[float] = []

    async def client() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # or all would share one connection
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            await channel.channel_ready()
            stub = tasks_pb2_grpc.TaskServiceStub(channel)
            ready.release()
            await go.wait()
            for number in numbers:
                started = time.perf_counter()
                await stub.CreateTask(_request("chain", number))
                milliseconds.append((time.perf_counter() - started) * 1000)

    ready, go = asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for _ in range(IN_FLIGHT):
            clients.create_task(client())
        for _ in range(IN_FLIGHT):
            await ready.acquire()
        began = time.perf_counter()
        go.set()
    return Creations(tasks / (time.perf_counter() - began), statistics.median(milliseconds))


async def run_one(stub: tasks_pb2_grpc.TaskServiceAsyncStub, name: str, number: int = 0) -> Took:
    """Create a task and watch it to the end."""
    started = time.perf_counter()
    created = await stub.CreateTask(_request(name, number))
    answered = time.perf_counter()
    async for update in stub.StreamTaskStatus(
        tasks_pb2.StreamTaskStatusRequest(task_uuid=created.task.task_uuid)
    ):
        if update.update_type == tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE:
            return Took((answered - started) * 1000, (time.perf_counter() - started) * 1000)
    raise RuntimeError("a task of the benchmark did not complete")


async def _create(address: str, tasks: int) -> None:
    numbers = iter(range(tasks))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)

        async def create() -> None:
            for number in numbers:
                await stub.CreateTask(_request("chain", number))

        await asyncio.gather(*(create() for _ in range(IN_FLIGHT)))


def _request(name: str, number: int) -> tasks_pb2.CreateTaskRequest:
    return tasks_pb2.CreateTaskRequest(
        namespace="bench", name=name, version="1.0.0", context_json=f'{{"number": {number}}}'
    )


def moment() -> UUID:
    """Return a uuid below those of all tasks created from now on."""
    return UUID(int=uuid7().int >> 80 << 80)


async def completed(database_url: str, since: UUID) -> int:
    """Return how many of the tasks created after a moment are complete."""
    # By key, so that what was done before costs nothing however much it is.
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM tasker.task_transitions WHERE task_uuid > %s AND to_state = 'complete'",
            (since,),
        )
        ((count,),) = await cursor.fetchall()
    return int(count)


async def span(database_url: str, since: UUID) -> tuple[float, float]:
    """Return when the first claim and the last completion of tasks created after a moment were: Unix time, or 0."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(
            """
            SELECT coalesce(extract(epoch FROM min(s.claimed_at)), 0)::float8,
                   coalesce(extract(epoch FROM max(t.completed_at)), 0)::float8
            FROM tasker.tasks t
            CROSS JOIN LATERAL (
                SELECT min(s.created_at) AS claimed_at FROM tasker.workflow_step_transitions s
                WHERE s.task_uuid = t.task_uuid AND s.to_state = 'in_progress') s
            WHERE t.task_uuid > %s
            """,
            (since,),
        )
        ((first, last),) = await cursor.fetchall()
    return first, last


async def _until_completed(database_url: str, tasks: int, since: UUID) -> None:
    # Counting costs the server something, so not too often; the error is at most one interval of many seconds.
    while await completed(database_url, since) < tasks:  # noqa: ASYNC110 - the database has no event to wait for
        await asyncio.sleep(0.05)
