"""Whether a service can do its work, and in which part of its life it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from tasker.rpc.health import HealthReporter
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: Says what keeps the service from its work; None if nothing does.
Condition: TypeAlias = Callable[[], str | None]


class OperationalState(StrEnum):
    """The part of its life that a service is in; the values are those of the contract."""

    STARTUP = "Startup"
    NORMAL = "Normal"
    EMERGENCY = "Emergency"
    """It runs, and something keeps it from its work."""
    GRACEFUL_SHUTDOWN = "GracefulShutdown"
    STOPPED = "Stopped"


class Readiness:
    """Looks at some conditions and tells probes what comes of it; ready only between start and stop."""

    def __init__(self, *conditions: Condition) -> None:
        self._reporter: HealthReporter | None = None
        self._conditions = conditions
        self._problems: list[str] = []
        self._updating: set[asyncio.Task[None]] = set()
        self._begun = False
        self._ending: OperationalState | None = None

    def report_to(self, reporter: HealthReporter) -> None:
        """Tell these probes from now on."""
        self._reporter = reporter

    @property
    def problems(self) -> list[str]:
        """What keeps the service from its work right now."""
        found = [problem for condition in self._conditions if (problem := condition()) is not None]
        return [*found, *(["the service is stopping"] if self._ending else [])]

    @property
    def state(self) -> OperationalState:
        """The part of its life that the service is in."""
        if self._ending is not None:
            return self._ending
        if not self._begun:
            return OperationalState.STARTUP
        return OperationalState.EMERGENCY if self.problems else OperationalState.NORMAL

    async def update(self) -> None:
        """Look, and tell probes if the answer is another one than before."""
        problems = self.problems
        self._begun = self._begun or not problems
        if problems != self._problems and self._ending is None:
            self._problems = problems
            if problems:
                log.warning("not_ready", problems=problems)
            else:
                log.info("ready_again")
        if self._reporter is not None and (ready := not problems) != self._reporter.ready:
            await self._reporter.set_ready(ready)

    def update_soon(self) -> None:
        """Look as soon as the loop gets to it."""
        updating = asyncio.get_running_loop().create_task(self.update(), name="readiness")
        self._updating.add(updating)
        updating.add_done_callback(self._updating.discard)

    async def stopping(self) -> None:
        """Say that the service finishes what it has begun, and takes nothing else."""
        self._ending = OperationalState.GRACEFUL_SHUTDOWN
        await self.update()

    def stopped(self) -> None:
        """Say that it is over."""
        self._ending = OperationalState.STOPPED
