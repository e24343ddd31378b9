"""PgQueuer: a job stores its result and enqueues the next one in one transaction; asyncpg, as its documents begin."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import speaking
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from speaking import CONCURRENCY, LEAVES, RESULT, STEPS, span

STORE = "INSERT INTO results VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
COUNT = "UPDATE fans SET remaining = remaining - 1 WHERE number = $1 RETURNING remaining"
RING = speaking.RING.replace("%s", "$1")
BLOB = json.dumps(RESULT)


def _pool() -> Any:
    return asyncpg.create_pool(speaking.URL, min_size=4, max_size=20)


def _payload(**arguments: int) -> bytes:
    return json.dumps(arguments).encode()


def register(worker: PgQueuer, pool: asyncpg.Pool) -> None:
    @worker.entrypoint("step")
    async def step(job: Job) -> None:
        span.begin()
        number, step = json.loads(job.payload or b"").values()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(STORE, number, step, BLOB)
            if step < STEPS:
                await _enqueue(connection, "step", number=number, step=step + 1)
            else:
                await connection.execute(RING, str(number))
        span.end()

    @worker.entrypoint("root")
    async def root(job: Job) -> None:
        (number,) = json.loads(job.payload or b"").values()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(STORE, number, 0, BLOB)
            await connection.execute("INSERT INTO fans VALUES ($1, $2)", number, LEAVES)
            leaves: list[bytes | None] = [_payload(number=number, leaf=leaf) for leaf in range(1, LEAVES + 1)]
            await Queries(AsyncpgDriver(connection)).enqueue(["leaf"] * LEAVES, leaves, [0] * LEAVES)

    @worker.entrypoint("leaf")
    async def leaf(job: Job) -> None:
        number, leaf = json.loads(job.payload or b"").values()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(STORE, number, leaf, BLOB)
            if await connection.fetchval(COUNT, number) == 0:
                await _enqueue(connection, "join", number=number)

    @worker.entrypoint("join")
    async def join(job: Job) -> None:
        (number,) = json.loads(job.payload or b"").values()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(STORE, number, LEAVES + 1, BLOB)
            await connection.execute(RING, str(number))


async def _enqueue(connection: Any, entrypoint: str, **arguments: int) -> None:
    await Queries(AsyncpgDriver(connection)).enqueue(entrypoint, _payload(**arguments))


async def set_up() -> None:
    connection = await asyncpg.connect(speaking.URL)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.execute(speaking.APPLICATION)
    await connection.close()


class Creator:
    async def open(self) -> None:
        self._bell = speaking.Bell()
        await self._bell.open()
        self._pool = await _pool()
        self._queries = Queries(AsyncpgPoolDriver(self._pool))

    async def create(self, number: int) -> Any:
        rung = self._bell.expect(number)
        await self._queries.enqueue("step", _payload(number=number, step=1))
        return rung

    async def finished(self, chain: Any) -> None:
        await chain

    async def fan(self, number: int) -> None:
        rung = self._bell.expect(number)
        await self._queries.enqueue("root", _payload(number=number))
        await rung

    async def close(self) -> None:
        await self._pool.close()
        await self._bell.close()


class Worker:
    async def open(self) -> None:
        self._pool = await _pool()
        self._worker = PgQueuer(AsyncpgPoolDriver(self._pool))
        register(self._worker, self._pool)
        self._running = asyncio.create_task(self._worker.run(batch_size=CONCURRENCY))

    async def close(self) -> None:
        self._worker.shutdown.set()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._pool.close()


if __name__ == "__main__":
    speaking.main(set_up, Creator, Worker)
