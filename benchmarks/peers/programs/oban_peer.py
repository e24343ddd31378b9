"""Oban: a job records its result and enqueues the next one; its free package has no workflows."""

from __future__ import annotations

from typing import Any

import speaking
from oban import Oban, worker
from oban.job import Record
from oban.schema import install
from psycopg_pool import AsyncConnectionPool
from speaking import CONCURRENCY, LEAVES, RESULT, RING, STEPS, span

pool: AsyncConnectionPool[Any] = AsyncConnectionPool(speaking.URL, min_size=4, max_size=20, open=False)

COUNT = "UPDATE fans SET remaining = remaining - 1 WHERE number = %s RETURNING remaining"


@worker(queue="default")
class Step:
    async def process(self, job: Any) -> Record:
        span.begin()
        number, step = job.args["number"], job.args["step"]
        if step < STEPS:
            await Step.enqueue({"number": number, "step": step + 1})
        else:
            await _ring(number)
        span.end()
        return Record(RESULT)


@worker(queue="default")
class Root:
    async def process(self, job: Any) -> Record:
        number = job.args["number"]
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO fans VALUES (%s, %s)", (number, LEAVES))
            leaves = [Leaf.new({"number": number, "leaf": leaf}) for leaf in range(LEAVES)]
            await Oban.get_instance().enqueue_many(leaves, conn=connection)
        return Record(RESULT)


@worker(queue="default")
class Leaf:
    async def process(self, job: Any) -> Record:
        number = job.args["number"]
        async with pool.connection() as connection:
            ((remaining,),) = await (await connection.execute(COUNT, (number,))).fetchall()
            if remaining == 0:
                await Join.enqueue({"number": number}, conn=connection)
        return Record(RESULT)


@worker(queue="default")
class Join:
    async def process(self, job: Any) -> Record:
        await _ring(job.args["number"])
        return Record(RESULT)


async def _ring(number: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(RING, (str(number),))


async def set_up() -> None:
    async with pool:
        await install(pool)
        async with pool.connection() as connection:
            await connection.execute(speaking.APPLICATION)


class Creator:
    async def open(self) -> None:
        self._bell = speaking.Bell()
        await self._bell.open()
        await pool.open()
        self._oban = Oban(pool=pool)
        await self._oban.start()

    async def create(self, number: int) -> Any:
        rung = self._bell.expect(number)
        await Step.enqueue({"number": number, "step": 1})
        return rung

    async def finished(self, chain: Any) -> None:
        await chain

    async def fan(self, number: int) -> None:
        rung = self._bell.expect(number)
        await Root.enqueue({"number": number})
        await rung

    async def close(self) -> None:
        await self._oban.stop()
        await pool.close()
        await self._bell.close()


class Worker:
    async def open(self) -> None:
        await pool.open()
        self._oban = Oban(pool=pool, queues={"default": CONCURRENCY})
        await self._oban.start()

    async def close(self) -> None:
        await self._oban.stop()
        await pool.close()


if __name__ == "__main__":
    speaking.main(set_up, Creator, Worker)
