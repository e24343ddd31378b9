"""Where a function's arguments come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from tasker.worker import (
    Config,
    Dep,
    HandlerDefinitionError,
    Inputs,
    StepContext,
    StepValidationError,
    depends_on,
    inputs,
    step_handler,
)
from tasker.worker.handlers.functions import function_handler, marked_handler
from tests.unit.handlers.conftest import NewContext, Run

if TYPE_CHECKING:
    from tasker.worker import StepContext as OnlyForTheChecker


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Cart(BaseModel):
    model_config = ConfigDict(strict=True)
    total: Decimal = Field(alias="grandTotal")
    priced_at: datetime


@dataclass
class Stock:
    sku: str
    left: int


class Limits(TypedDict):
    maximum: int


CART = {"total": "12.50", "priced_at": "2026-01-02T03:04:05Z"}


@step_handler("old_style")
@depends_on(cart=("price_cart", Cart), customer="load_customer", stock="check_stock")
@inputs("card_token", "note")
def old_style(
    cart: Cart, customer: Any, card_token: str, context: StepContext, note: str = "none", stock: Any = "no"
) -> dict[str, Any]:
    return {
        "total": str(cart.total),
        "customer": customer,
        "token": card_token,
        "note": note,
        "stock": stock,
        "step": context.step_name,
    }


@step_handler("typed_style")
async def typed_style(
    cart: Annotated[Cart, Dep("price_cart")],
    customer: Annotated[dict[str, Any] | None, Dep("load_customer")],
    card_token: Annotated[str, Inputs("card_token")],
    ctx: StepContext,
    note: Annotated[str, Inputs("note")] = "none",
    stock: Annotated[Any, Dep("check_stock")] = "no",
) -> dict[str, Any]:
    return {
        "total": str(cart.total),
        "customer": customer,
        "token": card_token,
        "note": note,
        "stock": stock,
        "step": ctx.step_name,
    }


@pytest.mark.parametrize("handler", [old_style, typed_style])
async def test_both_spellings_inject_the_same(run: Run, handler: Any) -> None:
    full = await run(
        handler,
        input_data={"card_token": "tok", "note": "gift", "other": 1},
        dependency_results={"price_cart": CART, "load_customer": {"id": 7}, "check_stock": {"left": 3}},
    )
    assert full.result == {
        "total": "12.50",
        "customer": {"id": 7},
        "token": "tok",
        "note": "gift",
        "stock": {"left": 3},
        "step": "the_step",
    }
    sparse = await run(handler, input_data={"card_token": "tok"}, dependency_results={"price_cart": CART})
    assert sparse.success
    # An untyped (or optional) parameter without a value gets None, a defaulted one its default.
    assert (sparse.result["customer"], sparse.result["note"], sparse.result["stock"]) == (None, "none", "no")


def test_both_spellings_compile_to_the_same_plan() -> None:
    def facts(function: object) -> set[tuple[str, str | None, bool]]:
        handler = marked_handler(function)
        assert handler is not None
        assert handler.plan is not None
        return {(str(i.source), i.key, i.adapter is None) for i in handler.plan.injections}

    assert facts(old_style) - facts(typed_style) == {("dependencies", "load_customer", True)}
    assert facts(typed_style) - facts(old_style) == {("dependencies", "load_customer", False)}


@pytest.mark.parametrize("handler", [old_style, typed_style])
async def test_missing_and_misfitting_values_are_a_permanent_validation_error(run: Run, handler: Any) -> None:
    result = await run(handler, dependency_results={"price_cart": {"total": "secret-text"}})
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("validation_error", False)
    assert result.metadata.error_type == "validation_error"
    assert result.metadata.retryable is False
    assert {one["field"] for one in result.error.context["fields"]} == {
        "dependencies.price_cart.total",
        "dependencies.price_cart.priced_at",
        "inputs.card_token",
    }
    assert "inputs.card_token: is missing" in result.error.message
    assert "secret-text" not in str(result.to_json())


async def test_a_whole_model_sees_present_keys_only_so_that_its_defaults_apply(run: Run) -> None:
    @step_handler("whole")
    @inputs(Order)
    def old(inputs: Order) -> Order:
        return inputs

    @step_handler("whole")
    def typed(order: Annotated[Order, Inputs()]) -> Order:
        return order

    for handler in (old, typed):
        assert (await run(handler, input_data={"sku": "a"})).result == {"sku": "a", "quantity": 1}
        refused = await run(handler, input_data={"quantity": "many"})
        assert refused.error is not None
        assert [one["field"] for one in refused.error.context["fields"]] == ["inputs.sku", "inputs.quantity"]


async def test_annotated_takes_every_type_pydantic_can_check(run: Run, new_context: NewContext) -> None:
    @step_handler("types")
    def handler(
        stock: Annotated[Stock, Dep("check_stock")],
        limits: Annotated[Limits, Config()],
        names: Annotated[list[str], Inputs("names")],
        amount: Annotated[int, Field(gt=0), Inputs("amount")],
        maybe: Annotated[Order, Inputs("order")] | None = None,
        maximum: Annotated[int, Config("maximum")] = 0,
    ) -> list[Any]:
        return [stock, limits, names, amount, maybe, maximum]

    inside = {"names": ["a"], "amount": 2}
    found = {"check_stock": {"sku": "a", "left": "3"}}
    config = {"maximum": 9}
    result = await run(handler, input_data=inside, dependency_results=found, initialization=config)
    assert result.result == {"result": [{"sku": "a", "left": 3}, {"maximum": 9}, ["a"], 2, None, 9]}

    refused = await run(
        handler, input_data=inside | {"amount": 0}, dependency_results=found, initialization=config
    )
    assert refused.error is not None
    assert "inputs.amount" in refused.error.message


async def test_what_a_step_returned_as_a_scalar_arrives_as_one(run: Run) -> None:
    @step_handler("scalar")
    def handler(
        count: Annotated[int, Dep("count_rows")],
        rows: Annotated[list[Order], Dep("load_rows")],
        raw: Annotated[dict[str, int], Dep("count_rows")],
    ) -> dict[str, Any]:
        return {"count": count, "rows": rows, "raw": raw}

    dependencies = {"count_rows": {"result": 7}, "load_rows": {"result": [{"sku": "a"}]}}
    result = await run(handler, dependency_results=dependencies)
    assert result.result == {"count": 7, "rows": [{"sku": "a", "quantity": 1}], "raw": {"result": 7}}


async def test_the_context_comes_by_name_or_by_type(run: Run) -> None:
    @step_handler("by_name")
    def by_name(_context: OnlyForTheChecker) -> str:
        return _context.step_name

    @step_handler("by_type")
    def by_type(anything: StepContext | None) -> str:
        assert anything is not None
        return anything.step_name

    @step_handler("keywords")
    @depends_on(cart="price_cart")
    def keywords(**everything: Any) -> Any:
        return everything

    assert (await run(by_name)).result == {"result": "the_step"}
    assert (await run(by_type)).result == {"result": "the_step"}
    assert (await run(keywords, dependency_results={"price_cart": CART})).result == {"cart": CART}


def test_the_function_stays_what_it_was() -> None:
    assert inspect.isfunction(old_style)
    assert old_style.__name__ == "old_style"
    cart = Cart.model_validate_json('{"grandTotal": "1", "priced_at": "2026-01-02T03:04:05Z"}')
    step_context = StepContext.__new__(StepContext)  # not looked into before the last line
    with pytest.raises(AttributeError):
        old_style(cart, None, "tok", step_context)


def _no_source(order: Order) -> None: ...
def _two_markers(order: Annotated[Order, Inputs(), Dep("x")]) -> None: ...
def _marker_uncalled(order: Annotated[Order, Inputs]) -> None: ...
def _dep_unnamed(order: Annotated[Order, Dep("")]) -> None: ...
def _unknown_type(order: Annotated[Missing, Inputs()]) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def _unchecked_type(order: Annotated[inspect.Signature, Inputs()]) -> None: ...
def _wrong_context(context: Order) -> None: ...
def _positional(context: StepContext, /) -> None: ...
def _generator() -> Any:
    yield 1


@depends_on(order="x")
def _no_parameter() -> None: ...
@depends_on(order="x")
def _both_spellings(order: Annotated[Order, Inputs()]) -> None: ...
@depends_on(order="x")
@inputs("order")
def _two_decorators(order: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (_no_source, "'order' has no source"),
        (_two_markers, "'order' names more than one source"),
        (_marker_uncalled, r"write Inputs\(\)"),
        (_dep_unnamed, "needs a name"),
        (_unknown_type, "'Missing' is not defined"),
        (_unchecked_type, "cannot be validated"),
        (_wrong_context, "'context' receives the StepContext"),
        (_positional, "positional-only"),
        (_generator, "is a generator"),
        (_no_parameter, "names 'order', which is no parameter"),
        (_both_spellings, "a source in its annotation and one in a decorator"),
        (_two_decorators, "'order' two sources"),
    ],
)
def test_a_function_that_cannot_work_is_refused_where_it_is_defined(
    function: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(HandlerDefinitionError, match=complaint) as caught:
        step_handler("price_cart")(function)
    assert "handler 'price_cart'" in str(caught.value)


@pytest.mark.parametrize(
    "decorate",
    [
        lambda: step_handler(lambda: None),  # type: ignore[arg-type]
        lambda: step_handler(""),
        lambda: step_handler("x", version=2),  # type: ignore[arg-type]
        lambda: step_handler("x")(Order),
        lambda: depends_on(cart=3),  # type: ignore[arg-type]
        lambda: depends_on(cart=""),
        lambda: depends_on(cart=("price_cart", None)),
        lambda: inputs(),
        lambda: inputs("not a name"),
        lambda: inputs(Order, "sku"),  # type: ignore[call-overload]
        lambda: depends_on(cart="x")(old_style),
    ],
)
def test_a_decorator_used_wrongly_is_refused_at_once(decorate: Callable[[], object]) -> None:
    with pytest.raises(HandlerDefinitionError):
        decorate()


def test_every_problem_is_named_at_once(new_context: NewContext) -> None:
    def handler(a: Annotated[int, Inputs("a")], b: Annotated[int, Inputs("b")]) -> None: ...

    with pytest.raises(StepValidationError) as caught:
        function_handler(handler, "both").call(new_context(input_data={"a": "x"}))
    assert "inputs.a" in str(caught.value)
    assert "inputs.b" in str(caught.value)
