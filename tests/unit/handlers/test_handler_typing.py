"""Decorated handlers keep their types, so wrong user code fails type checking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.type_checking import assert_only_marked_lines_fail

RIGHT = """
from typing import Annotated
from pydantic import BaseModel
from tasker.worker import Config, Dep, Inputs, RetryableError, StepContext, StepHandler, StepHandlerResult
from tasker.worker import depends_on, inputs, step_handler

class Order(BaseModel):
    sku: str

class Stock(BaseModel):
    left: int

@step_handler("price_cart")
async def price_cart(order: Annotated[Order, Inputs()], stock: Annotated[Stock, Dep("check_stock")]) -> Order:
    if not stock.left:
        raise RetryableError("stock is short", retry_after=30)
    return order

@step_handler("charge", version="2.0.0")
@depends_on(stock=("check_stock", Stock), cart="price_cart")
@inputs("token")
def charge(stock: Stock, cart: dict[str, int], token: str, context: StepContext) -> int:
    return stock.left

class Refund(StepHandler):
    handler_name = "refund"
    async def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"attempt": context.attempt})

async def use(context: StepContext) -> None:
    order: Order = await price_cart(Order(sku="a"), stock=Stock(left=1))
    left: int = charge(Stock(left=1), {}, "tok", context=context)
    print(order, left, price_cart.__name__)
"""

WRONG = """
from tasker.worker import Dep, RetryableError, StepContext, StepHandler, depends_on, inputs, step_handler

@step_handler                                        # 3 without its name
def bare() -> None: ...

@step_handler("numbers")
def numbers(count: int) -> int:
    return count

numbers("three")                                     # 10 argument of another type
numbers()                                            # 11 argument missing
text: str = numbers(1)                               # 12 result of another type
depends_on(cart=3)                                   # 13 no step
inputs(7)                                            # 14 no key
Dep()                                                # 15 no step
RetryableError("x", retry_after=[1])                 # 16 no time
class Handler(StepHandler):
    def call(self, ctx: int) -> int:                 # 18 no context
        return ctx

def look(context: StepContext) -> None:
    context.attempts                                 # 22 no such member
    context.attempt = 2                              # 23 frozen
"""


def test_wrong_user_code_fails_type_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_only_marked_lines_fail(RIGHT, WRONG, tmp_path, monkeypatch)
