"""Renewing the leases of running steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tasker.domain.losses import Company
from tasker.domain.retry import LEASE
from tasker.persistence.queries import Queries

_RENEW: Final = "SELECT step_uuid FROM tasker.renew_leases_v1(%s::uuid[], %s::uuid[], %s::uuid[], %s)"
_BEGIN_SUSPECT: Final = "SELECT tasker.begin_suspect_v1(%s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a step for a while, as a worker shows it."""

    task_uuid: UUID
    step_uuid: UUID
    lease_token: UUID


async def renew_leases(queries: Queries, leases: Sequence[Lease]) -> set[UUID]:
    """Renew leases; return the steps whose lease is lost."""
    return set(
        await queries.fetch_values(
            _RENEW,
            (
                [lease.task_uuid for lease in leases],
                [lease.step_uuid for lease in leases],
                [lease.lease_token for lease in leases],
                LEASE,
            ),
        )
    )


async def begin_suspect(queries: Queries, lease: Lease, company: Company) -> bool:
    """Note in which company a suspect begins to run; False if its lease is lost."""
    return bool(
        await queries.fetch_value(
            _BEGIN_SUSPECT, (lease.task_uuid, lease.step_uuid, lease.lease_token, company)
        )
    )
