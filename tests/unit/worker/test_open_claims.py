"""Which claims of a worker are open."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from tasker.persistence.operations.claim import ClaimedStep
from tasker.worker.runtime.claims import OpenClaims


@pytest.fixture
def claim() -> ClaimedStep:
    return ClaimedStep(
        queue="worker_test_queue", msg_id=1,
        lease_token=uuid4(), task_uuid=uuid4(), step_uuid=uuid4(), name="s1", template_step_name="s1", handler="work",
        namespace="test", template_digest=b"", correlation_id=uuid4(), attempt=1, max_attempts=3, timeout_seconds=None,
        suspect=False, inputs=None, checkpoint=None, context={}, dependencies={}, hydrated=True,
    )  # fmt: skip


def test_a_claim_is_open_until_it_is_released(claim: ClaimedStep) -> None:
    claims = OpenClaims()
    claims.add(claim)
    assert claim in claims
    assert claims.all() == {claim.step_uuid: claim}
    claims.release(claim)
    claims.release(claim)
    assert claim not in claims
    assert len(claims) == 0


def test_the_newest_claim_of_a_step_wins(claim: ClaimedStep) -> None:
    claims, newer = OpenClaims(), replace(claim, lease_token=uuid4(), attempt=2)
    claims.add(claim)
    claims.add(newer)
    assert (claim in claims, newer in claims, len(claims)) == (False, True, 1)
    claims.release(claim)  # its handler ends late
    assert newer in claims


def test_a_snapshot_stays_as_it_was(claim: ClaimedStep) -> None:
    claims = OpenClaims()
    claims.add(claim)
    before = claims.all()
    claims.release(claim)
    assert list(before.values()) == [claim]
