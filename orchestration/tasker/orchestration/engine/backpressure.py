"""Refuses work while too much waits already. Deciding reads a few numbers in memory: a create costs no more for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tasker.domain.backpressure import BackpressureError, DepthLimits, Pressure, PressureLevel
from tasker.persistence.reading.backlogs import Backlog
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: What was read longer ago says nothing about now, and refuses nobody.
STALE_SECONDS: Final = 30.0


class Backpressure:
    """Knows how much waits, as it was read last."""

    def __init__(
        self,
        *,
        worker_queues: DepthLimits,
        result_queues: DepthLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits.

        Args:
            worker_queues: For the steps of one namespace that wait for workers.
            result_queues: For what waits for orchestration.
            clock: Seconds that only grow.
        """
        self._limits_of_workers = worker_queues
        self._limits_of_results = result_queues
        self._clock = clock
        self._noted_at = float("-inf")
        self._pressures: Mapping[str | None, Pressure] = {}

    def note(self, backlogs: Iterable[Backlog]) -> None:
        """Take what was read just now; logs where the level changed."""
        pressures = {backlog.namespace: self._pressure(backlog) for backlog in backlogs}
        for namespace, pressure in pressures.items():
            before = self._pressures.get(namespace)
            if pressure.level is not (before.level if before else PressureLevel.NORMAL):
                _write_log(pressure)
        self._pressures = pressures
        self._noted_at = self._clock()

    def admit(self, namespace: str) -> Pressure | None:
        """Let a new task of a namespace in.

        Returns:
            What the caller should know: nothing, or that much waits.

        Raises:
            BackpressureError: Too much waits.
        """
        pressure = self._highest(namespace)
        if pressure is None or pressure.level is PressureLevel.NORMAL:
            return None
        if pressure.level.refuses_work:
            raise BackpressureError(pressure)
        return pressure

    def level_of_results(self, depth: int) -> PressureLevel:
        """Return what it means that so many results wait for orchestration."""
        return self._limits_of_results.level(depth)

    @property
    def raised(self) -> list[Pressure] | None:
        """Where more waits than it should, the worst first; None if that is not known."""
        if self._is_stale:
            return None
        raised = [one for one in self._pressures.values() if one.level is not PressureLevel.NORMAL]
        return sorted(raised, key=lambda one: (one.level, one.depth), reverse=True)

    @property
    def _is_stale(self) -> bool:
        return self._clock() > self._noted_at + STALE_SECONDS

    def _highest(self, namespace: str) -> Pressure | None:
        if self._is_stale:
            return None
        own, results = self._pressures.get(namespace), self._pressures.get(None)
        if own is None or results is None:
            return own or results
        return own if own.level >= results.level else results

    def _pressure(self, backlog: Backlog) -> Pressure:
        limits = self._limits_of_results if backlog.namespace is None else self._limits_of_workers
        return Pressure(backlog.namespace, limits.level(backlog.depth), backlog.depth, limits.critical)


def _write_log(pressure: Pressure) -> None:
    write = log.info if pressure.level is PressureLevel.NORMAL else log.warning
    write(
        "backpressure",
        level=pressure.level.name.lower(),
        namespace=pressure.namespace,
        depth=pressure.depth,
        limit=pressure.limit,
    )
