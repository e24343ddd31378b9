"""A second call for what waits behind one that takes long, if that is much."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from tasker.domain.results import ResultStatus, StepExecutionResult
from tasker.messaging.pgmq import PgmqWorkerBroker
from tasker.persistence.operations.claim import ClaimedStep
from tasker.persistence.operations.submit import ResultToSubmit
from tasker.worker.handlers.attempts import WorkerIdentity
from tasker.worker.handlers.sealing import SealedResult
from tasker.worker.runtime.claims import OpenClaims
from tasker.worker.runtime.submitter import ResultSubmitter
from tests.support.engine import Engine, chain, graph
from tests.support.waiting import until, within

PAIR = graph({"a": [], "b": []}) | {"name": "pair"}


class Calls:
    """The calls that were begun; the first one waits until it may go on."""

    def __init__(self) -> None:
        self.begun: list[set[UUID]] = []
        self.may_go_on = asyncio.Event()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    submit = PgmqWorkerBroker.submit

    async def held_up(self: PgmqWorkerBroker, results: Sequence[ResultToSubmit]) -> set[UUID]:
        calls.begun.append({result.lease.step_uuid for result in results})
        if len(calls.begun) == 1:
            await calls.may_go_on.wait()
        return await submit(self, results)

    monkeypatch.setattr(PgmqWorkerBroker, "submit", held_up)
    return calls


@pytest.fixture
async def submitter(engine: Engine) -> AsyncIterator[ResultSubmitter]:
    submitter = ResultSubmitter(engine.worker, OpenClaims(), WorkerIdentity("worker_test"))
    running = asyncio.create_task(submitter.run())
    yield submitter
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def sealed(step: ClaimedStep) -> SealedResult:
    """Return a success."""
    result = StepExecutionResult(str(step.step_uuid), True, ResultStatus.COMPLETED, {})
    return SealedResult(result, json.dumps(result.to_json()))


async def test_a_backlog_is_submitted_beside_a_call_under_way(
    engine: Engine, submitter: ResultSubmitter, calls: Calls
) -> None:
    await engine.create(PAIR)
    first, same_task = await engine.claim()
    template = await engine.register(chain(1))
    for _ in range(60):
        await engine.request(template)
    others = await engine.claim()
    assert len(others) == 60

    submitter.put(first, sealed(first))
    await until(lambda: len(calls.begun) == 1)
    submitter.put(same_task, sealed(same_task))
    for step in others[:40]:
        submitter.put(step, sealed(step))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(calls.begun) == 1  # so few can wait
    for step in others[40:]:
        submitter.put(step, sealed(step))
    await until(lambda: len(calls.begun) == 2)
    # What is of the task that the first call may have locked waits for that call.
    assert calls.begun[1] == {step.step_uuid for step in others}
    calls.may_go_on.set()
    await within(submitter.flush())
    assert calls.begun[2:] == [{same_task.step_uuid}]
    assert await engine.sql("SELECT count(*) FROM tasker.step_results") == [(62,)]
    assert await engine.sql("SELECT 1 FROM tasker.step_leases") == []
