"""Tasker's client; its services are its own commands. The address of the orchestrator stands for the database's URL."""

from __future__ import annotations

from typing import Any

import speaking

from tasker.client import TaskerClient


class Creator:
    async def open(self) -> None:
        self._client = TaskerClient(speaking.URL)

    async def create(self, number: int) -> Any:
        return (await self._client.create("bench", "chain", {"number": number})).task_uuid

    async def finished(self, chain: Any) -> None:
        await self._client.wait(chain)

    async def fan(self, number: int) -> None:
        task = await self._client.create("bench", "fan", {"number": number})
        await self._client.wait(task.task_uuid)

    async def close(self) -> None:
        await self._client.close()


async def _nothing() -> None:
    """The database is migrated by the one who starts the services."""


if __name__ == "__main__":
    speaking.main(_nothing, Creator, Creator)
