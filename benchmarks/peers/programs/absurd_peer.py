"""absurd: a chain is one task of four steps, a fan a task that spawns a hundred into another queue and awaits them."""

from __future__ import annotations

import asyncio
from typing import Any

import absurdctl
import psycopg
import speaking
from absurd_sdk import AsyncAbsurd
from speaking import CONCURRENCY, LEAVES, RESULT, STEPS, span

#: A worker has one connection, so there are several; its default, 0.25 s, would be most of what is measured.
WORKERS = 4
POLL_SECONDS = 0.05
#: A task may not wait for one of its own queue.
LEAF_QUEUE = "leaves"


async def _work() -> dict[str, str]:
    span.begin()
    span.end()
    return RESULT


async def chain(params: Any, context: Any) -> None:
    for step in range(STEPS):
        await context.step(f"step-{step}", _work)


async def fan(params: Any, context: Any) -> None:
    await context.step("root", _work)

    async def spawn() -> list[str]:
        async with _opened() as client:
            return [str((await client.spawn("leaf", {}, queue=LEAF_QUEUE))["task_id"]) for _ in range(LEAVES)]

    for leaf in await context.step("spawn", spawn):
        await context.await_task_result(leaf, LEAF_QUEUE)
    await context.step("join", _work)


async def leaf(params: Any, context: Any) -> dict[str, str]:
    return RESULT


class _opened:  # noqa: N801 - reads as a function
    """A client with a connection of its own: the worker's is busy with what others of its tasks do."""

    async def __aenter__(self) -> AsyncAbsurd:
        self._client = AsyncAbsurd(speaking.URL)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def set_up() -> None:
    async with await psycopg.AsyncConnection.connect(speaking.URL, autocommit=True) as connection:
        await connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    async with _opened() as client:
        await client.create_queue("default")
        await client.create_queue(LEAF_QUEUE)


class Creator:
    async def open(self) -> None:
        self._client = AsyncAbsurd(speaking.URL)

    async def create(self, number: int) -> Any:
        return (await self._client.spawn("chain", {"number": number}, queue="default"))["task_id"]

    async def finished(self, chain: Any) -> None:
        await self._client.await_task_result(chain)

    async def fan(self, number: int) -> None:
        spawned = await self._client.spawn("fan", {"number": number}, queue="default")
        await self._client.await_task_result(spawned["task_id"])

    async def close(self) -> None:
        await self._client.close()


class Worker:
    async def open(self) -> None:
        self._clients = [AsyncAbsurd(speaking.URL) for _ in range(WORKERS)]
        for client in self._clients:
            client.register_task("chain")(chain)
            client.register_task("fan")(fan)
        leaves = AsyncAbsurd(speaking.URL, queue_name=LEAF_QUEUE)
        leaves.register_task("leaf")(leaf)
        self._clients.append(leaves)
        self._running = [
            asyncio.create_task(
                client.start_worker(concurrency=CONCURRENCY // WORKERS, poll_interval=POLL_SECONDS)
            )
            for client in self._clients
        ]

    async def close(self) -> None:
        for client in self._clients:
            client.stop_worker()
        await asyncio.gather(*self._running, return_exceptions=True)
        for client in self._clients:
            await client.close()


if __name__ == "__main__":
    speaking.main(set_up, Creator, Worker)
