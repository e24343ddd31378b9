"""What the service says about its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

#: `basic`: it answers. `ready`: it can take work. `detailed`: every check, whatever they say.
HealthProbe = Literal["basic", "ready", "detailed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """What one check found.

    Attributes:
        status: `healthy`, `degraded`, `unhealthy` or `unknown`.
        message: What was found.
        duration_ms: Time the check took, in milliseconds.
    """

    status: str
    message: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInfo:
    """The service the checks ran in.

    Attributes:
        version: Version of the service.
        environment: Its TASKER_ENV.
        operational_state: `Normal`, `Startup`, `GracefulShutdown`, `Stopped` or `Emergency`.
        paused_namespaces: Namespaces whose steps nobody claims; none unless `detailed` was asked.
    """

    version: str
    environment: str
    operational_state: str
    paused_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a probe found.

    Attributes:
        status: `healthy` or `degraded`; `ready` if that was asked.
        at: When the service answered.
        checks: The checks by name; none if only `basic` was asked.
        info: The service; None if only `basic` was asked.
    """

    status: str
    at: datetime
    checks: Mapping[str, HealthCheck]
    info: HealthInfo | None
