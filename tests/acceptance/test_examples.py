"""The examples do what they say, each handler by itself and each workflow from end to end (spec 40 sections 7, 8)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from examples import ecommerce, maths
from tasker.client import InvalidArgumentError, StepState, Task, TaskerClient, TaskState
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.validation import validate
from tasker.worker import PermanentError, RetryableError, StepContext, StepHandler, load_handlers
from tests import services
from tests.commands import tasker

EXAMPLES = Path(ecommerce.__file__).parent
TEMPLATES = sorted(EXAMPLES.glob("*/*.yaml"))
SECONDS = 30.0

CART = [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]
CUSTOMER = {"email": "customer@example.com", "name": "Sam Doe"}
PAYMENT = {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76}
CHECKOUT: dict[str, Any] = {"cart_items": CART, "customer_info": CUSTOMER, "payment_info": PAYMENT}
VALID_CART = {"validated_items": [{"product_id": 1, "quantity": 2}], "total": 124.76}


def context(
    inputs: dict[str, Any], dependencies: tuple[str, ...] = (), **results: dict[str, Any]
) -> StepContext:
    return StepContext(
        task_uuid=UUID(int=1),
        step_uuid=UUID(int=2),
        correlation_id=UUID(int=3),
        namespace="examples",
        step_name="step",
        handler_name="handler",
        input_data=inputs,
        dependencies=dependencies,
        dependency_results=results,
    )


def result(handler: StepHandler, context: StepContext) -> dict[str, Any]:
    outcome = handler.call(context)
    assert isinstance(outcome, dict)
    return outcome


# Templates


def test_there_are_three() -> None:
    assert [path.parent.name for path in TEMPLATES] == ["diamond", "ecommerce_checkout", "linear_sequence"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_valid_and_its_handlers_are_there(path: Path) -> None:
    (document,) = load_documents(path.read_text(), str(path))
    report = validate(document)
    assert not report.errors
    assert {finding.severity.value for finding in report.findings} <= {"info"}
    assert report.template is not None
    registry = load_handlers("examples")
    for step in report.template.steps:
        registry.resolve(step.handler.callable, step.handler.method)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_each_has_a_page_to_read(path: Path) -> None:
    steps = [step["name"] for step in yaml.safe_load(path.read_text())["steps"]]
    page = (path.parent / "README.md").read_text()
    assert all(f"`{step}`" in page for step in steps)


# The handlers of the sequences


def test_square_takes_the_number_at_a_root_and_the_parent_elsewhere() -> None:
    assert result(maths.Square(), context({"even_number": 6})) == {"value": "36", "operation": "square"}
    further = context({"even_number": 6}, ("b",), a={"value": "36"}, b={"value": str(10**40)})
    assert result(maths.Square(), further)["value"] == str(10**80)


def test_multiply_and_square_takes_direct_parents_only() -> None:
    joined = context({"even_number": 6}, ("b", "c"), a={"value": "36"}, b={"value": "2"}, c={"value": "3"})
    assert result(maths.MultiplyAndSquare(), joined) == {"value": "36", "operation": "multiply_and_square"}


@pytest.mark.parametrize("number", [5, "6", None, 6.0, True])
def test_a_number_that_is_not_even_fails_for_good(number: object) -> None:
    with pytest.raises(PermanentError) as caught:
        maths.Square().call(context({"even_number": number}))
    assert caught.value.error_code == "VALIDATION_ERROR"


# The handlers of the checkout


def test_the_cart_is_priced() -> None:
    priced = result(ecommerce.ValidateCart(), context(CHECKOUT))
    assert (priced["subtotal"], priced["tax"], priced["shipping"], priced["total"]) == (
        109.97,
        8.80,
        5.99,
        124.76,
    )
    assert priced["validated_items"][0] == {
        "product_id": 1,
        "name": "Widget A",
        "price": 29.99,
        "quantity": 2,
        "line_total": 59.98,
    }


@pytest.mark.parametrize(("units", "cost"), [(1, 5.99), (4, 5.99), (5, 9.99), (20, 9.99), (21, 14.99)])
def test_shipping_goes_by_weight(units: int, cost: float) -> None:
    cart = {"cart_items": [{"product_id": 1, "quantity": units}]}
    assert result(ecommerce.ValidateCart(), context(cart))["shipping"] == cost


@pytest.mark.parametrize(
    ("cart", "code"),
    [
        (None, "MISSING_CART_ITEMS"),
        ([], "MISSING_CART_ITEMS"),
        ([{"quantity": 1}], "MISSING_PRODUCT_ID"),
        ([{"product_id": 1}], "INVALID_QUANTITY"),
        ([{"product_id": 1, "quantity": 0}], "INVALID_QUANTITY"),
        ([{"product_id": 9, "quantity": 1}], "PRODUCT_NOT_FOUND"),
        ([{"product_id": 5, "quantity": 1}], "PRODUCT_INACTIVE"),
    ],
)
def test_a_wrong_cart_fails_for_good(cart: object, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        ecommerce.ValidateCart().call(context({"cart_items": cart}))
    assert caught.value.error_code == code


@pytest.mark.parametrize("item", [{"product_id": 4, "quantity": 1}, {"product_id": 3, "quantity": 26}])
def test_short_stock_is_tried_again_after_a_while(item: dict[str, int]) -> None:
    with pytest.raises(RetryableError) as caught:
        ecommerce.ValidateCart().call(context({"cart_items": [item]}))
    assert caught.value.retry_after == 30


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        (None, "MISSING_PAYMENT_INFO"),
        ({"token": "t", "amount": 124.76}, "MISSING_PAYMENT_METHOD"),
        ({"method": "credit_card", "amount": 124.76}, "MISSING_PAYMENT_TOKEN"),
        (PAYMENT | {"amount": 124.78}, "PAYMENT_AMOUNT_MISMATCH"),
        (PAYMENT | {"amount": 124.74}, "PAYMENT_AMOUNT_MISMATCH"),
        (PAYMENT | {"token": "tok_test_declined"}, "PAYMENT_DECLINED"),
        (PAYMENT | {"token": "tok_test_insufficient_funds"}, "PAYMENT_DECLINED"),
    ],
)
def test_a_wrong_payment_fails_for_good(payment: object, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        ecommerce.ProcessPayment().call(context({"payment_info": payment}, validate_cart=VALID_CART))
    assert caught.value.error_code == code


@pytest.mark.parametrize("amount", [124.75, 124.76, 124.77])
def test_a_cent_is_tolerated_and_a_second_attempt_is_the_same_payment(amount: float) -> None:
    at_hand = context({"payment_info": PAYMENT | {"amount": amount}}, validate_cart=VALID_CART)
    first, second = (result(ecommerce.ProcessPayment(), at_hand) for _ in range(2))
    assert first == second
    assert first["amount_charged"] == 124.76


def test_a_bank_that_does_not_answer_is_asked_again() -> None:
    payment = PAYMENT | {"token": "tok_test_network_error"}
    with pytest.raises(RetryableError) as caught:
        ecommerce.ProcessPayment().call(context({"payment_info": payment}, validate_cart=VALID_CART))
    assert caught.value.retry_after == 15


@pytest.mark.parametrize(
    ("handler", "inputs", "results", "code"),
    [
        (ecommerce.ProcessPayment(), CHECKOUT, {}, "MISSING_CART_TOTAL"),
        (ecommerce.UpdateInventory(), CHECKOUT, {}, "MISSING_VALIDATED_ITEMS"),
        (ecommerce.CreateOrder(), CHECKOUT, {}, "MISSING_VALIDATED_ITEMS"),
        (ecommerce.CreateOrder(), {}, {"validate_cart": VALID_CART}, "MISSING_CUSTOMER_INFO"),
        (ecommerce.SendConfirmation(), {}, {}, "MISSING_CUSTOMER_INFO"),
    ],
)
def test_what_a_step_misses_fails_it_for_good(
    handler: StepHandler, inputs: dict[str, Any], results: dict[str, Any], code: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        handler.call(context(inputs, **results))
    assert caught.value.error_code == code


# Workflows, over gRPC


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[TaskerClient]:
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, load_handlers("examples"), EXAMPLES),
        TaskerClient(orchestration.address) as client,
    ):
        yield client


async def settled(client: TaskerClient, namespace: str, name: str, inputs: dict[str, Any]) -> Task:
    created = await client.create(namespace, name, inputs)
    return await client.wait(created.task_uuid, timeout=SECONDS)


def states(task: Task) -> dict[str, str]:
    return {step.name: step.state.value for step in task.steps}


async def test_checkout(client: TaskerClient) -> None:
    task = await settled(client, "examples_ecommerce", "ecommerce_order_processing", CHECKOUT)
    assert task.state is TaskState.COMPLETE
    assert set(states(task).values()) == {"complete"}
    order = task.step("create_order").result
    assert re.fullmatch(r"ORD-\d{8}-[0-9A-F]{8}", order["order_id"])
    assert (order["status"], order["total"]) == ("confirmed", 124.76)
    assert order["payment_id"] == task.step("process_payment").result["payment_id"]
    assert task.step("send_confirmation").result["recipient"] == "customer@example.com"
    stock = {
        row["product_id"]: row["stock_left"]
        for row in task.step("update_inventory").result["updated_products"]
    }
    assert stock == {1: 98, 2: 49}


async def test_checkout_with_a_declined_card(client: TaskerClient) -> None:
    declined = CHECKOUT | {"payment_info": PAYMENT | {"token": "tok_test_declined"}}
    task = await settled(client, "examples_ecommerce", "ecommerce_order_processing", declined)
    assert task.state is TaskState.BLOCKED_BY_FAILURES
    assert states(task) == {
        "validate_cart": "complete",
        "process_payment": "error",
        "update_inventory": "pending",
        "create_order": "pending",
        "send_confirmation": "pending",
    }
    payment = task.step("process_payment")
    assert payment.attempts == 1
    assert payment.results is not None
    assert payment.results["metadata"]["error_code"] == "PAYMENT_DECLINED"


async def test_linear_sequence(client: TaskerClient) -> None:
    task = await settled(client, "examples_linear", "mathematical_sequence", {"even_number": 6})
    assert task.state is TaskState.COMPLETE
    assert [step.result["value"] for step in task.steps] == ["36", "1296", "1679616", "2821109907456"]


@pytest.mark.parametrize(("number", "power"), [(6, 6**16), (100, 100**16)])
async def test_diamond(client: TaskerClient, number: int, power: int) -> None:
    task = await settled(client, "examples_diamond", "diamond_pattern", {"even_number": number})
    assert task.state is TaskState.COMPLETE
    assert task.step("diamond_end").result["value"] == str(power)
    assert task.step("diamond_end").state is StepState.COMPLETE


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
