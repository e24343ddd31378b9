"""The claims of a worker that are open: claimed, and their result not submitted yet."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from tasker.persistence.operations.claim import ClaimedStep


class OpenClaims:
    """Knows the newest open claim of each step: that is the one whose lease may still be renewed."""

    def __init__(self) -> None:
        self._by_step: dict[UUID, ClaimedStep] = {}

    def __len__(self) -> int:
        return len(self._by_step)

    def __contains__(self, claim: ClaimedStep) -> bool:
        return self._by_step.get(claim.step_uuid) is claim

    def add(self, claim: ClaimedStep) -> None:
        """Open a claim; it takes the place of an earlier one of the same step."""
        self._by_step[claim.step_uuid] = claim

    def release(self, claim: ClaimedStep) -> None:
        """Close a claim; a newer one of the same step stays open."""
        if claim in self:
            del self._by_step[claim.step_uuid]

    def all(self) -> Mapping[UUID, ClaimedStep]:
        """Return the claims that are open now, by step."""
        return dict(self._by_step)
