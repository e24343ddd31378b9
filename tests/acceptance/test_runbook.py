"""docs/runbook.md tells the truth: for each reason, its commands lead from a stuck task to one that is done."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from tasker.client import ResolutionStatus, TaskerClient, TaskState
from tasker.orchestration.service import OrchestrationService
from tasker.worker import HandlerRegistry, PermanentError, RetryableError, StepContext, load_handlers
from tests.support import services
from tests.support.commands import SECONDS, TASKER, environment
from tests.support.engine import Engine, graph
from tests.support.faults import refuse
from tests.support.reflection import call_by_reflection
from tests.support.stuck import Detection, minutes, stuck_task
from tests.support.workshop import Workshop

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
#: Where the page says the service listens.
SHOWN_ADDRESS = "127.0.0.1:9190"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

CHECKOUT = graph(
    {"price_cart": [], "charge": ["price_cart"], "ship": ["charge"]},
    retry={"max_attempts": 2, "backoff": "none"},
) | {"name": "checkout", "namespace_name": "shop"}


def section(heading: str) -> list[str]:
    """Return the blocks below a heading, of this level alone."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert found is not None, f"there is no heading {heading!r}"
    return [body for _, body in _BLOCK.findall(found[1])]


@dataclass
class Operator:
    """Somebody who does what the page says, at a terminal.

    Attributes:
        address: Where the service listens.
        folder: Where the terminal is.
        variables: What the page's variables stand for.
        typed: Every block that was typed.
    """

    address: str
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)

    async def type(self, block: str, *, code: int = 0) -> str:
        """Type a block; return what was printed."""
        self.typed.append(block)
        commands = "".join(line for line in block.splitlines(keepends=True) if not line.startswith("TASK="))
        settings = environment(TASKER_ADDRESS=self.address, **self.variables)
        settings["PATH"] = f"{Path(TASKER).parent}:{settings['PATH']}"
        process = await asyncio.create_subprocess_exec(
            "sh", "-e", "-c", commands, cwd=self.folder, env=settings,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode == code, f"{block}\n{out.decode()}\n{err.decode()}"
        return out.decode()

    async def call(self, block: str) -> list[dict[str, Any]]:
        """Make the calls of a block of grpcurl; return what they answer."""
        self.typed.append(block)
        answers = []
        for line in block.splitlines():
            program, plaintext, flag, request, address, method = shlex.split(line)
            assert (program, plaintext, flag, address) == ("grpcurl", "-plaintext", "-d", SHOWN_ADDRESS)
            for name, value in self.variables.items():
                request = request.replace(f"${name}", value)
            answers.append(
                await asyncio.to_thread(call_by_reflection, self.address, method, json.loads(request))
            )
        return answers

    async def run(self, program: str, *, given: str) -> str:
        """Run a Python program that asks questions; return what it printed."""
        self.typed.append(program)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program.replace(SHOWN_ADDRESS, self.address), cwd=self.folder, env=environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(given.encode()), SECONDS)
        assert (process.returncode, err.decode()) == (0, "")
        return out.decode()


class Bank:
    """What the step `charge` asks: it fails until it is mended."""

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def mend(self) -> None:
        self._error = None

    def __call__(self, context: StepContext) -> object:
        if self._error is not None:
            raise self._error
        return {"payment": "by card"}


@pytest.fixture
async def orchestration(database_url: str) -> AsyncIterator[OrchestrationService]:
    async with services.orchestration(database_url) as service:
        yield service


@pytest.fixture
async def client(orchestration: OrchestrationService) -> AsyncIterator[TaskerClient]:
    async with TaskerClient(orchestration.address) as client:
        yield client


@pytest.fixture
def operator(orchestration: OrchestrationService, tmp_path: Path) -> Operator:
    return Operator(orchestration.address, tmp_path)


Hire = Callable[..., Any]


@pytest.fixture
async def hire(database_url: str, tmp_path: Path) -> AsyncIterator[Hire]:
    """Start a worker with these handlers and templates."""
    async with AsyncExitStack() as stack:

        async def start(
            registry: HandlerRegistry, *documents: Mapping[str, Any], folder: Path | None = None
        ) -> None:
            templates = folder or services.write_templates(tmp_path / "templates", *documents)
            await stack.enter_async_context(services.worker(database_url, registry, templates))

        yield start


async def blocked(client: TaskerClient, operator: Operator) -> UUID:
    """Create a checkout that ends blocked by failures, and put it before the operator."""
    task = await client.create("shop", "checkout")
    settled = await client.wait(task.task_uuid, timeout=SECONDS)
    assert settled.state is TaskState.BLOCKED_BY_FAILURES
    operator.variables["TASK"] = str(task.task_uuid)[:23]
    return task.task_uuid


async def state(client: TaskerClient, task: UUID) -> TaskState:
    return (await client.wait(task, timeout=SECONDS)).state


async def closed(client: TaskerClient, task: UUID | str) -> tuple[ResolutionStatus, str | None]:
    """Return how the entry of a task was closed, and what was noted."""
    entry = await client.dlq.get(task)
    return entry.resolution_status, entry.resolution_notes


async def test_where_to_look_first(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    workshop = Workshop({"charge": Bank(PermanentError("the card is stolen", error_code="STOLEN_CARD"))})
    await hire(workshop.registry, CHECKOUT)
    task = await blocked(client, operator)
    lists, details = section("Where to look first")
    shown = await operator.type(lists)
    assert re.search(rf"^{task}  shop/checkout +blocked_by_failures +max_retries_exceeded ", shown, re.M)
    assert re.search(
        rf"^{task} .* step charge failed in attempt 1 of 2, for good: .*STOLEN_CARD", shown, re.M
    )
    assert re.search(
        r"^failure +step charge .*: permanent_error STOLEN_CARD \(PermanentError\): the card is stolen$",
        await operator.type(details),
        re.M,
    )


async def test_attempts_are_used_up(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    bank = Bank(RetryableError("the bank does not answer"))
    await hire(Workshop({"charge": bank}).registry, CHECKOUT)
    task = await blocked(client, operator)
    look, retry, many = section("Attempts are used up")
    shown = await operator.type(look)
    assert "step charge failed in attempt 2 of 2, no attempt is left" in shown
    assert f'"{__file__}", line ' in shown  # the traceback
    others = [await blocked(client, operator) for _ in range(2)]
    operator.variables["TASK"] = str(task)
    bank.mend()
    assert f"Task {task} goes on with charge: it is steps_in_process." in await operator.type(retry)
    assert await state(client, task) is TaskState.COMPLETE
    assert len(re.findall(r"^Task \S+ goes on with charge", await operator.type(many), re.M)) == 2
    assert {await state(client, other) for other in others} == {TaskState.COMPLETE}


async def test_a_permanent_failure(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    bank = Bank(PermanentError("there is no such merchant"))
    await hire(Workshop({"charge": bank}).registry, CHECKOUT)
    reset, complete, resolve, cancel = section("A permanent failure")
    for block, result in ((complete, {"payment": "by hand"}), (resolve, None)):
        task = await blocked(client, operator)
        await operator.type(block)
        settled = await client.wait(task, timeout=SECONDS)
        assert (settled.state, settled.step("charge").result) == (TaskState.COMPLETE, result)
    task = await blocked(client, operator)
    await operator.type(cancel)
    found = await client.get(task)
    assert found.state is TaskState.CANCELLED
    assert found.cancellation is not None
    assert (found.cancellation.reason, found.cancellation.requested_by) == ("the customer gave up", "ada")
    assert await closed(client, task) == (ResolutionStatus.CANCELLED, "the customer gave up")
    task = await blocked(client, operator)
    bank.mend()
    await operator.type(reset)
    assert await state(client, task) is TaskState.COMPLETE


class TestADeclinedCard:
    """One walk, three ways."""

    @pytest.fixture(autouse=True)
    async def shop(self, operator: Operator, hire: Hire) -> None:
        """What the first block of the walk starts."""
        serve, *_ = section("A declined card, and a person decides")
        assert shlex.split(serve) == ["tasker", "dev", "--templates", "examples", "--handlers", "examples"]
        operator.typed.append(serve)
        operator.folder = ROOT
        await hire(load_handlers(ROOT / "examples"), folder=ROOT / "examples")

    async def create(self, operator: Operator) -> str:
        """Do what the second block says; return the task."""
        _, create, *_ = section("A declined card, and a person decides")
        shown = await operator.type(create, code=1)
        assert (
            "step process_payment failed in attempt 1 of 2, for good: permanent_error PAYMENT_DECLINED"
            in shown
        )
        found = re.search(r"^Task (\S+) ", shown, re.M)
        assert found is not None
        operator.variables["TASK"] = found[1]
        return found[1]

    async def order(self, client: TaskerClient, task: str) -> str:
        """Return with which payment the order was written, at the end of it all."""
        settled = await client.wait(task, timeout=SECONDS)
        entry = await client.dlq.get(task)
        assert (settled.state, entry.resolution_status) == (
            TaskState.COMPLETE,
            ResolutionStatus.MANUALLY_RESOLVED,
        )
        return str(settled.step("create_order").result["payment_id"])

    async def test_by_the_command_line(self, operator: Operator, client: TaskerClient) -> None:
        task = await self.create(operator)
        *_, look, decide = section("A declined card, and a person decides")
        assert await operator.type(look)
        await operator.type(decide)
        assert await self.order(client, task) == "transfer 17"
        told = "complete_manually by ada: paid by bank transfer"
        history = await operator.type("tasker task audit $TASK\n")
        assert re.search(rf"^\S+ \S+ +process_payment +complete +{told}$", history, re.M)
        step = await operator.type("tasker step show $TASK process_payment\n")
        assert re.search(rf"^by hand +\S+ \S+ {told}$", step, re.M)
        entry = await client.dlq.get(task)
        assert (entry.resolution_notes, entry.resolved_by) == ("paid by bank transfer", "ada")

    async def test_with_grpcurl(self, operator: Operator, client: TaskerClient) -> None:
        task = await self.create(operator)
        look, complete, close = section("With grpcurl")
        ((blocked,),) = [answer["tasks"] for answer in await operator.call(look)]
        assert blocked["taskUuid"] == task
        assert blocked["failure"]["stepFailure"]["errorCode"] == "PAYMENT_DECLINED"
        operator.variables["STEP"] = blocked["failure"]["stepUuid"]
        await operator.call(complete)
        find, update = close.splitlines()
        ((found),) = await operator.call(find)
        operator.variables["ENTRY"] = found["entry"]["dlqEntryUuid"]
        ((updated),) = await operator.call(update)
        assert updated["success"]
        operator.typed.append(close)
        assert await self.order(client, task) == "transfer 17"

    async def test_from_python(self, operator: Operator, client: TaskerClient) -> None:
        paid = await self.create(operator)
        declined = json.loads((ROOT / "examples" / "ecommerce_checkout" / "declined.json").read_text())
        declined["customer_info"]["name"] = "Ada Lovelace"  # an equal request would be the same task
        task = await client.create("examples_ecommerce", "ecommerce_order_processing", declined)
        unpaid = (await client.wait(task.task_uuid, timeout=SECONDS)).task_uuid
        (program,) = section("From Python")
        said = await operator.run(program, given="\ntransfer 17\n")  # newest first
        assert re.findall(r"(\w+ \w+): the bank declined the card", said) == ["Ada Lovelace", "Sam Doe"]
        assert await self.order(client, paid) == "transfer 17"
        assert await state(client, unpaid) is TaskState.CANCELLED
        assert await closed(client, paid) == (ResolutionStatus.MANUALLY_RESOLVED, "paid by transfer 17")
        assert await closed(client, unpaid) == (ResolutionStatus.CANCELLED, "not paid")


async def test_a_stale_task(database_url: str, engine: Engine, hire: Hire, tmp_path: Path) -> None:
    detection = Detection(engine)
    task = await stuck_task(engine, "waiting_for_retry")
    await minutes(engine, 61)
    await detection.detect()
    await detection.close()
    look, resume = section("A stale task")
    async with (
        services.orchestration(database_url) as orchestration,
        TaskerClient(orchestration.address) as client,
    ):
        operator = Operator(orchestration.address, tmp_path, {"TASK": str(task)})
        shown = await operator.type(look)
        assert re.search(r"^state +error$", shown, re.M)
        assert re.search(r"^failure +staleness_timeout", shown, re.M)
        await hire(Workshop().registry, graph({"s1": []}) | {"name": "other"})
        await operator.type(resume)
        assert await state(client, task) is TaskState.COMPLETE


async def test_no_worker(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    await client.registry.register(CHECKOUT)
    task = await client.create("shop", "checkout")
    operator.variables["TASK"] = str(task.task_uuid)
    look, watch = section("No worker")
    assert re.search(r"^worker_shop_queue +shop +normal +1 +0 +\S+ \w+ +0$", await operator.type(look), re.M)
    await hire(Workshop().registry, CHECKOUT)
    assert re.search(r"^worker_shop_queue +shop +normal +0 +0 +1$", await operator.type(watch), re.M)
    assert await state(client, task.task_uuid) is TaskState.COMPLETE


async def test_a_poison_message(operator: Operator, client: TaskerClient, engine: Engine, hire: Hire) -> None:
    await refuse(engine, "tasker.workflow_steps", "NEW.name = 'charge' AND NEW.state = 'complete'")
    await hire(Workshop().registry, CHECKOUT)
    task = await blocked(client, operator)
    look, retry = section("A poison message")
    shown = await operator.type(look)
    assert re.search(rf" orchestration_step_results +{task} +error +.*refused by the test", shown, re.M)
    assert re.search(r"^failure +step charge .*result_processing_error", shown, re.M)
    await engine.database.execute("DROP TRIGGER refuse_0 ON tasker.workflow_steps")
    await operator.type(retry)
    assert await state(client, task) is TaskState.COMPLETE


async def test_a_paused_namespace(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    await hire(Workshop().registry, CHECKOUT)
    await client.operations.pause_namespace("shop", requested_by="bob", reason="the bank moves")
    task = await client.create("shop", "checkout")
    operator.variables["TASK"] = str(task.task_uuid)
    look, resume, pause = section("A paused namespace")
    assert "by bob: the bank moves" in await operator.type(look)
    await operator.type(resume)
    assert await state(client, task.task_uuid) is TaskState.COMPLETE
    await operator.type(pause)
    assert {queue.pause is not None for queue in await client.operations.queues("shop")} == {True}


async def test_a_bad_version_of_a_template(
    operator: Operator, client: TaskerClient, hire: Hire, tmp_path: Path
) -> None:
    bad = CHECKOUT | {"version": "1.1.0", "steps": [{"name": "charge_twice", "handler": "work"}]}
    await hire(
        Workshop({"charge_twice": Bank(PermanentError("charged already"))}).registry,
        CHECKOUT,
        bad,
    )
    (tmp_path / "checkout.yaml").write_text(yaml.safe_dump(CHECKOUT | {"version": "1.2.0"}))
    task = await blocked(client, operator)
    choose, cancel, register = section("A bad version of a template")
    shown = await operator.type(choose)
    assert "Template shop/checkout:1.1.0 is out of use, with 1 open tasks; 1.0.0 is the default." in shown
    assert re.findall(r"^(1\.\d\.0) +(\w+) +(\d)", shown, re.M) == [
        ("1.1.0", "default", "1"), ("1.0.0", "active", "0"), ("1.1.0", "inactive", "1"), ("1.0.0", "default", "0"),
    ]  # fmt: skip
    await operator.type(cancel)
    assert await state(client, task) is TaskState.CANCELLED
    assert re.search(r"^template +shop/checkout:1\.2\.0$", await operator.type(register), re.M)


async def test_when_it_is_done(operator: Operator, client: TaskerClient, hire: Hire) -> None:
    bank = Bank(RetryableError("the bank does not answer"))
    await hire(Workshop({"charge": bank}).registry, CHECKOUT)
    task = await blocked(client, operator)
    bank.mend()
    await client.operations.retry_task(task, performed_by="ada", reason="it answers again")
    assert await state(client, task) is TaskState.COMPLETE
    (block,) = section("When it is done")
    shown = await operator.type(block)
    lines = re.findall(r"^\S+ \S+ +(\w+) +(\d) ", shown, re.M)
    assert lines == [("price_cart", "1"), ("charge", "1"), ("charge", "2"), ("charge", "1"), ("ship", "1")]
    assert re.search(r"^\S+ \S+ +charge +pending +reset_for_retry by ada: it answers again$", shown, re.M)
    entry = await client.dlq.get(task)
    assert entry.resolution_status is ResolutionStatus.MANUALLY_RESOLVED
    assert re.search(r"^max_retries_exceeded +1 +0 +1 ", shown, re.M)


def test_every_command_is_run() -> None:
    """Each section has a test above that takes its blocks apart: one that is added breaks that."""
    headings = re.findall(r"^##+ (.+)$", PAGE, re.M)
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [heading for heading in headings if f'section("{heading}")' not in tests] == []
    assert sum(len(section(heading)) for heading in headings) == len(_BLOCK.findall(PAGE))


def test_links_lead_somewhere() -> None:
    def anchors(text: str) -> set[str]:
        headings = re.findall(r"^##+ (.+)$", text, re.M)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text(encoding="utf-8") if file else PAGE
        assert not anchor or anchor in anchors(text), target
