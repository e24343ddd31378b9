"""How the use of a pool of connections is told, by both services."""

from __future__ import annotations

from typing import TypeVar

from tasker.persistence.database import PoolUsage
from tasker.v1 import health_pb2, worker_pb2

Detail = TypeVar("Detail", health_pb2.PoolDetail, worker_pb2.WorkerPoolDetail)


def pool_detail(kind: type[Detail], usage: PoolUsage) -> Detail:
    """Return it as the message of a service."""
    return kind(
        active_connections=usage.active,
        idle_connections=usage.idle,
        max_connections=usage.most,
        utilization_percent=100 * usage.utilization,
        total_acquires=usage.acquired,
        slow_acquires=usage.waited,
        acquire_errors=usage.refused,
        average_acquire_time_ms=usage.waited_ms / usage.acquired if usage.acquired else 0,
    )
