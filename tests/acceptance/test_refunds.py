"""Two teams, one template name: each works in its own namespace, and one calls the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from examples import customer_success, payments
from tasker.client import Task, TaskerClient, TaskState
from tasker.worker import RetryableError, load_handlers
from tests.scenarios import scenarios
from tests.scenarios.scenarios import EXAMPLES
from tests.support import services, waiting

REFUND = {"payment_id": "pay_1", "refund_amount": 5000}
TICKET = {
    "ticket_id": "ticket_1",
    "customer_id": "cust_vip",
    "refund_amount": 5000,
    "customer_email": "ada@example.com",
}

Team = Callable[[str], AbstractAsyncContextManager[object]]


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[TaskerClient]:
    async with (
        services.orchestration(database_url) as orchestration,
        TaskerClient(orchestration.address) as client,
    ):
        with scenarios.found_at(orchestration.address):
            yield client


@pytest.fixture
def team(database_url: str) -> Team:
    """Starts a worker with one team's template; it has the handlers of all of them."""

    @asynccontextmanager
    async def start(folder: str) -> AsyncIterator[object]:
        async with services.worker(database_url, load_handlers(EXAMPLES), EXAMPLES / folder) as worker:
            yield worker

    return start


async def refund(client: TaskerClient, namespace: str, context: Mapping[str, Any]) -> Task:
    return await client.create(namespace, "process_refund", context)


async def complete(client: TaskerClient, task: Task) -> Task:
    ended = await client.wait(task.task_uuid, timeout=waiting.PATIENCE_SECONDS)
    assert ended.state is TaskState.COMPLETE, ended.steps
    return ended


async def delegated(client: TaskerClient, ticket: Task) -> list[Task]:
    """Return the tasks that a ticket's task has caused."""
    return [task async for task in client.list(parent_correlation_id=ticket.correlation_id)]


def workers_of(task: Task) -> set[str]:
    """Return who has run the steps of a task."""
    return {str(step.results["metadata"]["worker_id"]) for step in task.steps if step.results}


class Meeting:
    """Lets nobody go on before everybody is here."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._here: set[str] = set()
        self._complete = asyncio.Event()

    async def join(self, name: str) -> None:
        self._here.add(name)
        if len(self._here) == self._expected:
            self._complete.set()
        await self._complete.wait()


async def test_both_refunds_run_at_the_same_time(
    client: TaskerClient, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of either waits for a step of the other: one after the other, both would time out."""
    meeting = Meeting(2)
    pay, delegate = payments.send_money_back, customer_success.create_refund

    async def paying(*args: Any, **more: Any) -> str:
        await meeting.join("payments")
        return await pay(*args, **more)

    async def delegating(*args: Any) -> Task:
        await meeting.join("customer_success")
        return await delegate(*args)

    monkeypatch.setattr(payments, "send_money_back", paying)
    monkeypatch.setattr(customer_success, "create_refund", delegating)
    async with team("payments_refund"), team("customer_success_refund"):
        created = await asyncio.gather(
            refund(client, "payments", REFUND), refund(client, "customer_success", TICKET)
        )
        paid, ticket = await asyncio.gather(*(complete(client, task) for task in created))
        assert [len(paid.steps), len(ticket.steps)] == [4, 5]
        assert {step.attempts for step in (*paid.steps, *ticket.steps)} == {1}
        (caused,) = await delegated(client, ticket)
        assert (await complete(client, caused)).step("notify_customer").result["sent_to"] == "ada@example.com"


async def test_a_worker_takes_only_its_own_teams_steps(client: TaskerClient, team: Team) -> None:
    async with team("customer_success_refund"):
        pass  # the template is known, and nobody serves it
    async with team("payments_refund"):
        ticket = await refund(client, "customer_success", TICKET)
        paid = [
            await complete(client, await refund(client, "payments", REFUND | {"payment_id": f"pay_{n}"}))
            for n in range(5)
        ]
        untouched = await client.get(ticket.task_uuid, steps=True)
        first = untouched.step("validate_refund_request")
        assert (first.state, first.attempts) == ("enqueued", 0)
        async with team("customer_success_refund"):
            ended = await complete(client, ticket)
            (caused,) = await delegated(client, ended)
            paid.append(await complete(client, caused))
    (payer,) = set.union(*map(workers_of, paid))
    (answerer,) = workers_of(ended)
    assert payer != answerer


async def test_a_refund_exists_once_even_if_the_step_that_wants_it_runs_twice(
    client: TaskerClient, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt creates the task and is lost before it can say so."""
    create, made = customer_success.create_refund, []

    async def lost_once(*args: Any) -> Task:
        made.append(await create(*args))
        if len(made) == 1:
            raise RetryableError("the answer is lost", retry_after=0.1)
        return made[-1]

    monkeypatch.setattr(customer_success, "create_refund", lost_once)
    async with team("payments_refund"), team("customer_success_refund"):
        ticket = await complete(client, await refund(client, "customer_success", TICKET))
        step = ticket.step("execute_refund_workflow")
        assert step.attempts == 2
        assert [task.already_existed for task in made] == [False, True]
        (caused,) = await delegated(client, ticket)
        assert step.result["delegated_task_uuid"] == str(caused.task_uuid)
        assert (caused.namespace, caused.version) == ("payments", "1.0.0")
        assert caused.correlation_id != ticket.correlation_id
        paid = await complete(client, caused)
        assert paid.step("update_payment_records").result["payment_status"] == "refunded"


async def test_a_ticket_does_not_wait_for_the_money(client: TaskerClient, team: Team) -> None:
    async with team("payments_refund"):
        pass  # the template is known, and nobody serves it
    async with team("customer_success_refund"):
        ticket = await complete(client, await refund(client, "customer_success", TICKET))
        (caused,) = await delegated(client, ticket)
        assert not caused.state.is_terminal
        assert caused.completed_steps == 0


async def test_what_the_payments_team_refuses_stays_refused(client: TaskerClient, team: Team) -> None:
    """There is no template of theirs: another attempt would find none either."""
    async with team("customer_success_refund"):
        created = await refund(client, "customer_success", TICKET)
        ticket = await client.wait(created.task_uuid, timeout=waiting.PATIENCE_SECONDS)
    assert ticket.state is TaskState.BLOCKED_BY_FAILURES
    step = ticket.step("execute_refund_workflow")
    assert step.attempts == 1
    assert step.results is not None
    assert step.results["metadata"]["error_code"] == "TEMPLATE_NOT_FOUND"
