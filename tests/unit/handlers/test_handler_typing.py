"""Decorated handlers keep their types, so wrong user code fails type checking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.type_checking import assert_only_marked_lines_fail

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

DYNAMIC_RIGHT = """
from typing import Annotated, Any
from tasker.worker import Batchable, BatchAggregationScenario, BatchAnalyzerOutcome, BatchConfig, BatchWorkerContext
from tasker.worker import CursorConfig, Decision, DecisionHandler, Inputs, NoBatches, StepContext, StepHandler
from tasker.worker import StepHandlerResult, batch_aggregator, batch_analyzer, batch_worker, checkpoint_yield
from tasker.worker import decision_handler

@decision_handler("route")
async def route(amount: Annotated[float, Inputs("amount")]) -> Decision:
    return Decision.route(["auto"], amount=amount) if amount < 1000 else Decision.skip("too much")

@batch_analyzer("analyze", worker_template="add")
def analyze(total: Annotated[int, Inputs("total")]) -> BatchConfig | NoBatches:
    return BatchConfig(total, 100, max_batches=5) if total else NoBatches("none", {"total": 0})

@batch_analyzer("days")
async def days() -> BatchAnalyzerOutcome:
    return BatchAnalyzerOutcome([CursorConfig("001", "2026-01-01", "2026-02-01", 31)], 31)

@batch_worker("add")
async def add(batch: BatchWorkerContext) -> StepHandlerResult | dict[str, int]:
    if not batch.has_checkpoint():
        return checkpoint_yield(cursor={"page": 2}, items_processed=5, accumulated_results={"sum": 3})
    return {"sum": 7}

@batch_aggregator("join", analyzer="analyze", workers="add")
def join(batches: BatchAggregationScenario) -> int:
    return batches.worker_count

class Route(DecisionHandler):
    def call(self, context: StepContext) -> StepHandlerResult:
        return self.decision_success(["auto"], {"amount": 3})

class Add(StepHandler, Batchable):
    def call(self, context: StepContext) -> StepHandlerResult:
        return self.handle_no_op_worker(context) or self.batch_worker_success(items_processed=5)

async def use(batch: BatchWorkerContext, batches: BatchAggregationScenario) -> None:
    decided: Decision = await route(5)
    count: int = join(batches)
    totals: list[dict[str, Any]] = batches.results_as(dict[str, Any])
    print(decided.step_names, count, totals, analyze(3), await add(batch))
"""

DYNAMIC_WRONG = """
from tasker.worker import BatchConfig, BatchWorkerContext, Decision, NoBatches, batch_aggregator, batch_analyzer
from tasker.worker import CursorConfig, DecisionHandler, StepContext, batch_worker, checkpoint_yield, decision_handler

@decision_handler                                    # 4 without its name
def bare() -> Decision: raise NotImplementedError

@decision_handler("route")                           # 7 decides nothing
def names() -> list[str]: raise NotImplementedError

@decision_handler("route")                           # 10 nor this, later
async def later() -> dict[str, str]: raise NotImplementedError

@batch_analyzer("analyze")                           # 13 plans nothing
def total() -> int: raise NotImplementedError

Decision.route("ship")                               # 16 a text is no list
Decision.route()                                     # 17 nowhere
Decision.skip()                                      # 18 without a reason
Decision.route(["a"]).step_names = ()                # 19 frozen
BatchConfig()                                        # 20 no total
BatchConfig("5", 2)                                  # 21 a text is no number
NoBatches(reason=3)                                  # 22 no reason
CursorConfig("001", None, 5, 5)                      # 23 no place
checkpoint_yield(None, 5)                            # 24 no place
checkpoint_yield(5)                                  # 25 how far
batch_aggregator("join", "analyze", "add")           # 26 which is which
batch_worker(3)                                      # 27 no name

class Route(DecisionHandler):
    def call(self, context: StepContext) -> object:
        return self.decision_success("ship")         # 31 a text is no list

def look(batch: BatchWorkerContext) -> None:
    batch.cursor                                     # 34 no such member
"""


def test_wrong_decisions_and_batches_fail_type_checking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_only_marked_lines_fail(DYNAMIC_RIGHT, DYNAMIC_WRONG, tmp_path, monkeypatch)


def test_wrong_user_code_fails_type_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_only_marked_lines_fail(RIGHT, WRONG, tmp_path, monkeypatch)
