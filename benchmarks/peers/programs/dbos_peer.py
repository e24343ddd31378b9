"""DBOS: the program that starts a workflow runs it; a backlog is enqueued by a client, for workers to take."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import speaking
from dbos import DBOS, DBOSClient, DBOSConfig
from speaking import LEAVES, RESULT, STEPS, span

URL = speaking.URL.replace("postgresql://", "postgresql+psycopg://", 1)
QUEUE = "chains"
#: The default, a second, would be most of what a short backlog takes.
POLL_SECONDS = 0.1


@DBOS.step()
async def work() -> dict[str, str]:
    span.begin()
    span.end()
    return RESULT


@DBOS.workflow()
async def chain(number: int) -> None:
    for _ in range(STEPS):
        await work()


@DBOS.workflow()
async def fan(number: int) -> None:
    await work()
    # Steps side by side, as its documents have it; a workflow for each would be spread over processes, and slower.
    await asyncio.gather(*(work() for _ in range(LEAVES)))
    await work()


def _prepare() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": URL,
        "log_level": "WARNING",
        "application_version": "1",
        "executor_id": f"{speaking.ROLE}-{os.getpid()}",
    }
    DBOS(config=config)


async def _launch() -> None:
    _prepare()
    # The creator shall not take from the queue what it puts there.
    DBOS.listen_queues([QUEUE] if speaking.ROLE == "worker" else [])
    await asyncio.to_thread(DBOS.launch)


async def set_up() -> None:
    await _launch()
    await DBOS.register_queue_async(QUEUE, polling_interval_sec=POLL_SECONDS)
    await asyncio.to_thread(DBOS.destroy)


class Creator:
    async def open(self) -> None:
        await _launch()
        self._client = DBOSClient(system_database_url=URL)

    async def create(self, number: int) -> Any:
        return await DBOS.start_workflow_async(chain, number)

    async def enqueue(self, number: int) -> None:
        await self._client.enqueue_async(
            {"queue_name": QUEUE, "workflow_name": chain.__qualname__, "app_version": "1"}, number
        )

    async def finished(self, chain: Any) -> None:
        await chain.get_result()

    async def fan(self, number: int) -> None:
        await (await DBOS.start_workflow_async(fan, number)).get_result()

    async def close(self) -> None:
        await asyncio.to_thread(DBOS.destroy)


class Worker:
    async def open(self) -> None:
        await _launch()

    async def close(self) -> None:
        await asyncio.to_thread(DBOS.destroy)


if __name__ == "__main__":
    speaking.main(set_up, Creator, Worker)
