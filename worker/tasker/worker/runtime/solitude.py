"""Running suspects alone: steps that have lost so many workers that they may be what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from tasker.domain.losses import Company
from tasker.persistence.failures import patiently
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.renew import begin_suspect
from tasker.persistence.queries import Queries
from tasker.telemetry.logs import get_logger
from tasker.worker.runtime.checkpoints import LeaseLostError
from tasker.worker.runtime.slots import Slots

log = get_logger(__name__)

#: How long a suspect waits for the others to end; then it runs beside them after all.
_PATIENCE_SECONDS: Final = 60.0


class Solitude:
    """Has suspects run one after the other, when all else has ended; meanwhile the worker claims nothing further."""

    def __init__(
        self,
        queries: Queries,
        slots: Slots,
        running: Mapping[UUID, asyncio.Task[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        """`running` has the tasks of the steps whose handlers run, and of suspects that wait; `flush` submits."""
        self._queries = queries
        self._slots = slots
        self._running = running
        self._flush = flush
        self._one_at_a_time = asyncio.Lock()
        self._waiting: set[asyncio.Task[Any] | None] = set()

    def expect(self, task: asyncio.Task[Any]) -> None:
        """Know a suspect from when it is started: another one that may begin must not wait for it to end."""
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    @asynccontextmanager
    async def of(self, step: ClaimedStep) -> AsyncIterator[None]:
        """Wait until a suspect may begin, and keep others away until the block ends.

        Raises:
            LeaseLostError: Its lease was lost meanwhile.
        """
        with self._slots.closed():
            async with self._one_at_a_time:
                company = Company.ALONE if await self._others_ended() else Company.BESIDE
                log.warning("suspect_begins", step_uuid=str(step.step_uuid), company=company.value)
                if not await patiently(
                    lambda: begin_suspect(self._queries, step.lease, company), "suspect_interrupted"
                ):
                    raise LeaseLostError
                self._waiting.discard(asyncio.current_task())
                yield

    async def _others_ended(self) -> bool:
        """Wait for the others; what hangs in a thread has ended, as far as its step is concerned."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._slots.none_reserved()
                while others := set(self._running.values()) - self._waiting:
                    await asyncio.wait(others)
                await self._flush()  # or what they have done would be lost with the worker
        except TimeoutError:
            return False
        return True
