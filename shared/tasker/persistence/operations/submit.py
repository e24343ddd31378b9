"""Submitting what executions produced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tasker.domain.storable import json_array
from tasker.persistence.operations.renew import Lease
from tasker.persistence.queries import Queries

_SUBMIT: Final = """
    SELECT step_uuid FROM tasker.submit_results_v1(%s::uuid[], %s::uuid[], %s::uuid[], %s::text::jsonb)
"""


@dataclass(frozen=True, slots=True)
class ResultToSubmit:
    """What an execution produced.

    Attributes:
        lease: What it ran under; another one has come since if it is too late.
        payload: The result as JSON text.
        success: Whether it says so.
    """

    lease: Lease
    payload: str
    success: bool


async def submit_results(queries: Queries, results: Sequence[ResultToSubmit]) -> set[UUID]:
    """Submit results; return the steps whose result was accepted."""
    return set(
        await queries.fetch_values(
            _SUBMIT,
            (
                [result.lease.task_uuid for result in results],
                [result.lease.step_uuid for result in results],
                [result.lease.lease_token for result in results],
                json_array(result.payload for result in results),
            ),
        )
    )
