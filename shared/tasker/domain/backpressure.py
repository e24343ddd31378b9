"""When so much waits that nothing more should be added: limits of a depth, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from tasker.domain.errors import UnavailableError


class PressureLevel(IntEnum):
    """How much waits, as compared with the limits."""

    NORMAL = 0
    WARNING = 1
    CRITICAL = 2
    OVERFLOW = 3

    @property
    def refuses_work(self) -> bool:
        """Whether nothing more is taken in."""
        return self >= PressureLevel.CRITICAL


#: Seconds after which a refused caller may try again.
RETRY_AFTER_SECONDS: Final[Mapping[PressureLevel, int]] = {
    PressureLevel.CRITICAL: 30,
    PressureLevel.OVERFLOW: 60,
}


@dataclass(frozen=True, slots=True)
class DepthLimits:
    """How many messages may wait.

    Attributes:
        warning: From here on callers are told.
        critical: From here on they are refused.
        overflow: From here on they are told to stay away for longer.
    """

    warning: int
    critical: int
    overflow: int

    def level(self, depth: int) -> PressureLevel:
        """Return what a depth means."""
        if depth >= self.overflow:
            return PressureLevel.OVERFLOW
        if depth >= self.critical:
            return PressureLevel.CRITICAL
        return PressureLevel.WARNING if depth >= self.warning else PressureLevel.NORMAL


@dataclass(frozen=True, slots=True)
class Pressure:
    """What waits in one place.

    Attributes:
        namespace: Whose steps wait for workers; None for results that wait for orchestration.
        level: What that means.
        depth: How many messages there are.
        limit: At how many nothing more is taken in.
    """

    namespace: str | None
    level: PressureLevel
    depth: int
    limit: int

    @property
    def reason(self) -> str:
        """What waits, in words."""
        if self.namespace is None:
            return f"{self.depth} results wait to be processed"
        return f"{self.depth} steps of namespace '{self.namespace}' wait for workers"


class BackpressureError(UnavailableError):
    """So much waits already that nothing more is taken in."""

    reason: ClassVar[str] = "BACKPRESSURE"

    def __init__(self, pressure: Pressure) -> None:
        self.pressure = pressure
        super().__init__(
            f"{pressure.reason}, and from {pressure.limit} on no task is created",
            retry_after_seconds=RETRY_AFTER_SECONDS[pressure.level],
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """How much waits, how much may, and when to try again."""
        return {
            **super().metadata,
            "queue_depth": str(self.pressure.depth),
            "max_queue_depth": str(self.pressure.limit),
        }
