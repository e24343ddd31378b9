"""Three bands of priority in every namespace."""

from __future__ import annotations

from collections import Counter

import pytest

from tasker.domain.errors import InvalidArgumentError
from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.queues import Band, worker_queue
from tests.support.engine import NAMESPACE, Engine, chain

HIGH, NORMAL, LOW = (worker_queue(NAMESPACE, band) for band in Band)


async def queues(engine: Engine) -> set[str]:
    """Return the worker queues there are."""
    rows = await engine.sql("SELECT queue_name FROM pgmq.list_queues() WHERE queue_name LIKE 'worker_%%'")
    return {name for (name,) in rows}


@pytest.mark.parametrize(("priority", "queue"), [(-100, LOW), (-1, LOW), (0, NORMAL), (1, HIGH), (100, HIGH)])
async def test_a_tasks_priority_chooses_the_queue_of_all_its_steps(
    engine: Engine, priority: int, queue: str
) -> None:
    task = await engine.create(chain(2), priority=priority)
    assert await queues(engine) == {NORMAL, queue}  # the others are made when something needs them
    for step in ("s1", "s2"):
        assert await engine.messages(queue) == 1
        claimed = await engine.worker.claim([queue], ["work"], 10)
        assert [claim.name for claim in claimed] == [step]
        await engine.succeed(*claimed)
        await engine.process()
    assert await engine.state(task) == "complete"


async def test_a_retry_goes_back_to_the_same_queue(engine: Engine) -> None:
    await engine.create(chain(1), priority=7)
    await engine.fail(*await engine.worker.claim([HIGH], ["work"], 1))
    await engine.process()
    await engine.move_clock(60)
    await engine.timers.tick()
    assert (await engine.messages(HIGH), await engine.messages(NORMAL)) == (1, 0)


async def test_the_reconciler_repairs_the_right_queue(engine: Engine) -> None:
    lost = await engine.create(chain(1), priority=7)
    await engine.sql("SELECT pgmq.purge_queue(%s)", HIGH)
    kept = await engine.create(chain(1), priority=7)
    await engine.move_clock(120)
    await engine.reconciler.tick()
    claimed = await engine.worker.claim([HIGH], ["work"], 10)
    assert Counter(step.task_uuid for step in claimed) == {lost: 1, kept: 1}
    assert await engine.messages(HIGH) == 0


async def test_a_resumed_task_sends_its_waiting_steps_to_their_queue(engine: Engine) -> None:
    await engine.create(chain(1), priority=-7)
    (failed,) = await engine.worker.claim([LOW], ["work"], 1)
    await engine.fail(failed, retryable=False)
    await engine.process()
    await engine.operators.reset_for_retry(
        failed.task_uuid, failed.step_uuid, performed_by="ann", reason="mended"
    )
    assert (await engine.messages(LOW), await engine.messages(NORMAL)) == (1, 0)


async def test_under_a_backlog_each_band_gets_its_share_and_none_starves(engine: Engine) -> None:
    template = await engine.register(chain(1))
    for priority in (-1, 0, 1):
        for _ in range(20):
            await engine.request(template, priority=priority)
    order = ClaimOrder([NAMESPACE])
    shares = Counter[str]()
    for _ in range(10):
        (step,) = await engine.worker.claim(order.next(), ["work"], 1)
        ((priority,),) = await engine.sql(
            "SELECT priority FROM tasker.tasks WHERE task_uuid = %s", step.task_uuid
        )
        shares[priority] += 1
    assert shares == {1: 6, 0: 3, -1: 1}


async def test_whatever_comes_first_the_other_bands_fill_free_slots(engine: Engine) -> None:
    template = await engine.register(chain(1))
    for priority in (-1, 0, 1):
        await engine.request(template, priority=priority)
    assert len(await engine.worker.claim(ClaimOrder([NAMESPACE]).next(), ["work"], 10)) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_every_namespace_comes_first_in_every_band(count: int) -> None:
    order = ClaimOrder([f"n{number}" for number in range(count)])
    firsts = Counter(order.next()[0] for _ in range(10 * count))
    assert firsts == {
        worker_queue(f"n{number}", band): share
        for number in range(count)
        for band, share in ((Band.HIGH, 6), (Band.NORMAL, 3), (Band.LOW, 1))
    }
    assert all(set(order.next()) == set(order.queues()) for _ in range(10))


def test_only_wanted_queues_are_looked_at() -> None:
    assert ClaimOrder(["a", "b"]).next({worker_queue("b", Band.LOW)}) == [worker_queue("b", Band.LOW)]
    assert ClaimOrder([]).next() == []


@pytest.mark.parametrize("namespace", ["very_high", "very_low", "_high"])
async def test_no_namespace_may_own_anothers_queue(engine: Engine, namespace: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must not end in _high or _low"):
        await engine.register(chain(1) | {"namespace_name": namespace})
