"""Procrastinate: a job stores its result and defers the next one in one transaction."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
import speaking
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from speaking import CONCURRENCY, LEAVES, RESULT, RING, STEPS, span

app = procrastinate.App(connector=procrastinate.PsycopgConnector())
pool: AsyncConnectionPool[Any] = AsyncConnectionPool(speaking.URL, min_size=4, max_size=20, open=False)

#: A worker misses the notification of a job that comes while it looks for jobs, and then finds it only by polling:
#: by the default of 5 s, seconds would be most of what is measured.
POLL_SECONDS = 0.1

STORE = "INSERT INTO results VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
COUNT = "UPDATE fans SET remaining = remaining - 1 WHERE number = %s RETURNING remaining"


@app.task(name="step")
async def step(number: int, step: int) -> None:
    span.begin()
    async with pool.connection() as connection:
        await connection.execute(STORE, (number, step, Jsonb(RESULT)))
        if step < STEPS:
            await _next("step", connection).defer_async(number=number, step=step + 1)
        else:
            await connection.execute(RING, (str(number),))
    span.end()


@app.task(name="root")
async def root(number: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(STORE, (number, 0, Jsonb(RESULT)))
        await connection.execute("INSERT INTO fans VALUES (%s, %s)", (number, LEAVES))
        leaves = [{"number": number, "leaf": leaf} for leaf in range(1, LEAVES + 1)]
        await _next("leaf", connection).batch_defer_async(*leaves)


@app.task(name="leaf")
async def leaf(number: int, leaf: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(STORE, (number, leaf, Jsonb(RESULT)))
        ((remaining,),) = await (await connection.execute(COUNT, (number,))).fetchall()
        if remaining == 0:
            await _next("join", connection).defer_async(number=number)


@app.task(name="join")
async def join(number: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(STORE, (number, LEAVES + 1, Jsonb(RESULT)))
        await connection.execute(RING, (str(number),))


def _next(task: str, connection: Any) -> Any:
    return app.configure_task(task, connection=connection)


async def set_up() -> None:
    async with pool, app.open_async(pool):
        await app.schema_manager.apply_schema_async()
        async with pool.connection() as connection:
            await connection.execute(speaking.APPLICATION)


class Creator:
    async def open(self) -> None:
        self._bell = speaking.Bell()
        await self._bell.open()
        await pool.open()
        await app.open_async(pool)

    async def create(self, number: int) -> Any:
        rung = self._bell.expect(number)
        await step.defer_async(number=number, step=1)
        return rung

    async def finished(self, chain: Any) -> None:
        await chain

    async def fan(self, number: int) -> None:
        rung = self._bell.expect(number)
        await root.defer_async(number=number)
        await rung

    async def close(self) -> None:
        await pool.close()
        await self._bell.close()


class Worker:
    async def open(self) -> None:
        await pool.open()
        await app.open_async(pool)
        self._running = asyncio.create_task(
            app.run_worker_async(
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=POLL_SECONDS,
                install_signal_handlers=False,
            )
        )

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await pool.close()


if __name__ == "__main__":
    speaking.main(set_up, Creator, Worker)
