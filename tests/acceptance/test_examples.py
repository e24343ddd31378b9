"""The examples do what their pages say; their handlers have tests of their own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasker.client import InvalidArgumentError, Task, TaskerClient, TaskState
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.validation import validate
from tasker.worker import load_handlers
from tests.scenarios import scenarios
from tests.scenarios.scenarios import EXAMPLES, PROBES
from tests.support.commands import tasker

ROOT = EXAMPLES.parent
TEMPLATES = sorted(EXAMPLES.glob("*/*.yaml"))
PAGES = [path.parent / "README.md" for path in TEMPLATES]

#: Tests that share the services run in one loop.

# Templates


def test_each_folder_holds_one_template_of_its_name() -> None:
    assert [path.stem for path in TEMPLATES] == sorted(
        path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith("_")
    )


@pytest.mark.parametrize("path", [*TEMPLATES, *sorted(PROBES.glob("*.yaml"))], ids=lambda path: path.stem)
def test_a_template_is_valid_and_its_handlers_are_there(path: Path) -> None:
    registry = load_handlers(EXAMPLES)
    for document in load_documents(path.read_text(), str(path)):
        report = validate(document)
        assert {finding.severity.value for finding in report.findings} <= {"info"}, report.findings
        assert report.template is not None
        for step in report.template.steps:
            registry.resolve(step.handler.callable, step.handler.method, step.handler.resolver)


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_names_every_step(page: Path) -> None:
    (template,) = page.parent.glob("*.yaml")
    steps = [step["name"] for step in yaml.safe_load(template.read_text())["steps"]]
    assert all(f"`{step}`" in page.read_text() for step in steps)


@pytest.mark.parametrize("page", [EXAMPLES / "README.md", *PAGES], ids=lambda page: page.parent.name)
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), f"{page} links to {target}"


def test_the_list_names_every_example() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [path.stem for path in TEMPLATES]


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page, as their words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def context_of(argument: str) -> Any:
    """Return what `--context` means; files are found from the root of the repository."""
    return json.loads((ROOT / argument[1:]).read_text() if argument.startswith("@") else argument)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
async def test_a_page_shows_how_to_run_it(page: Path, client: TaskerClient) -> None:
    serve, create = commands(page)
    assert serve == ["tasker", "dev", "--templates", "examples", "--handlers", "examples"]
    *start, template, option, argument = [word for word in create if word not in ("--wait", "--watch")]
    assert (start, option) == (["tasker", "task", "create"], "--context")
    ran = await scenarios.run(client, template, context_of(argument))
    assert ran.settled.state is TaskState.COMPLETE


# Workflows, where their results are not the same in every run


@pytest.fixture(scope="module")
async def client(module_database_url: str) -> AsyncIterator[TaskerClient]:
    async with scenarios.served(module_database_url) as client:
        yield client


CHECKOUT: dict[str, Any] = {
    "cart_items": [{"product_id": 3, "quantity": 2}, {"product_id": 2, "quantity": 1}],
    "customer_info": {"email": "ada@example.com", "name": "Ada"},
    "payment_info": {"method": "credit_card", "token": "tok_test_valid", "amount": 103.16},
}


async def settled(client: TaskerClient, template: str, context: dict[str, Any]) -> Task:
    return (await scenarios.run(client, template, context)).settled


async def test_a_checkout_ends_in_an_order(client: TaskerClient) -> None:
    task = await settled(client, "examples_ecommerce/ecommerce_order_processing", CHECKOUT)
    assert task.state is TaskState.COMPLETE
    order = task.step("create_order").result
    assert re.fullmatch(r"ORD-\d{8}-[0-9A-F]{8}", order["order_id"])
    assert (order["customer"], order["total"]) == ("Ada", 103.16)
    assert order["payment_id"] == task.step("process_payment").result["payment_id"]
    stock = {
        row["product_id"]: row["stock_left"]
        for row in task.step("update_inventory").result["updated_products"]
    }
    assert stock == {3: 23, 2: 49}


async def test_a_declined_card_says_so(client: TaskerClient) -> None:
    payment = CHECKOUT["payment_info"] | {"token": "tok_test_declined"}
    declined = CHECKOUT | {"payment_info": payment}
    task = await settled(client, "examples_ecommerce/ecommerce_order_processing", declined)
    assert task.state is TaskState.BLOCKED_BY_FAILURES
    results = task.step("process_payment").results
    assert results is not None
    assert results["metadata"]["error_code"] == "PAYMENT_DECLINED"


async def test_an_order_becomes_a_parcel(client: TaskerClient) -> None:
    order = json.loads((EXAMPLES / "order_fulfillment" / "order.json").read_text())
    order["shipping"]["method"] = "express"
    task = await settled(client, "examples_fulfillment/business_workflow", order)
    parcel, payment = (task.step(name) for name in ("ship_order", "process_payment"))
    assert parcel.result["contents"] == {"WIDGET-001": 2, "GADGET-002": 1}
    assert parcel.result["payment_id"] == payment.result["payment_id"]
    assert payment.results is not None
    assert payment.results["metadata"]["custom"] == {"method": "credit_card"}


async def test_a_registration_names_one_user_throughout(client: TaskerClient) -> None:
    user = {"email": "ada@example.com", "name": "Ada", "plan": "enterprise"}
    task = await settled(client, "examples_microservices/user_registration", {"user_info": user})
    assert task.state is TaskState.COMPLETE
    assert len({step.result["user_id"] for step in task.steps}) == 1
    assert task.step("setup_billing_profile").result["price"] == 299.99
    assert task.step("send_welcome_sequence").result["channels_used"] == ["email", "in_app", "sms"]


async def test_the_largest_number_is_exact(client: TaskerClient) -> None:
    task = await settled(client, "examples_diamond/diamond_pattern", {"even_number": 100})
    assert task.step("diamond_end").result["value"] == str(100**16)


async def test_an_odd_number_is_refused_before_a_task_exists(client: TaskerClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.create("examples_linear", "mathematical_sequence", {"even_number": 5})
    assert [violation.field for violation in caught.value.violations] == ["context.even_number"]


# The demo


async def test_the_demo_runs_and_runs_again(tmp_path: Path) -> None:
    """In a folder of its own, without a terminal, and whatever DATABASE_URL may name."""
    orders = set()
    for _ in range(2):
        ended = await tasker("demo", cwd=tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
        assert (ended.code, ended.err) == (0, "")
        for step in (
            "validate_cart",
            "process_payment",
            "update_inventory",
            "create_order",
            "send_confirmation",
        ):
            assert re.search(rf"{step} +running\n +{step} +complete after \d+ ms\n", ended.out)
        assert re.search(r"total +124\.76\n", ended.out)
        assert "Confirmation sent to customer@example.com." in ended.out
        (order,) = re.findall(r"Order (ORD-\d{8}-[0-9A-F]{8}) is confirmed\.", ended.out)
        orders.add(order)
    assert len(orders) == 2
    assert not (tmp_path / ".tasker" / "demo" / "postmaster.pid").exists()
