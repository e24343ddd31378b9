"""The engine that authors test with runs whole tasks as the services would, by a clock that tests move."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from tasker.domain.errors import InvalidArgumentError, UnknownTemplateError
from tasker.domain.templates.findings import InvalidTemplateError
from tasker.testing import (
    Engine,
    TaskNotOverError,
    assert_permanent,
    assert_retryable,
    assert_routes,
    assert_succeeded,
    fail_n_times,
    make_context,
    run_handler,
)
from tasker.worker import (
    BatchAggregationScenario,
    BatchConfig,
    BatchWorkerContext,
    Decision,
    Dep,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
    Inputs,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    batch_aggregator,
    batch_analyzer,
    batch_worker,
    checkpoint_yield,
    decision_handler,
    step_handler,
)
from tasker.worker.runtime.templates import TemplateDirectoryError

HOURLY = {
    "max_attempts": 3,
    "backoff": "exponential",
    "backoff_base_ms": 3_600_000,
    "max_backoff_ms": 3_600_000,
}


def template(*steps: dict[str, Any], name: str = "checkout", **more: Any) -> dict[str, Any]:
    document = {"name": name, "namespace_name": "shop", "version": "1.0.0", "steps": list(steps)}
    return document | {"identity_strategy": "always_unique"} | more


def step(name: str, *above: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "handler": name, "dependencies": list(above)} | more


@step_handler("price")
async def price(count: Annotated[int, Inputs("count")]) -> dict[str, int]:
    return {"cents": count * 150}


@step_handler("charge")
def charge(price: Annotated[dict[str, int], Dep("price")], context: StepContext) -> dict[str, Any]:
    return {"paid": price["cents"], "attempt": context.attempt}


CHECKOUT = template(step("price"), step("charge", "price", retry=HOURLY))


@pytest.fixture(scope="module")
def module_engine(embedded_url: str) -> Iterator[Engine]:
    with Engine.on_server(embedded_url) as engine:
        yield engine


@pytest.fixture
def engine(module_engine: Engine) -> Iterator[Engine]:
    yield module_engine
    module_engine.reset()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    engine.register_handlers(price, charge)
    engine.register_templates(CHECKOUT)
    return engine


def test_a_task_runs_to_its_end_within_the_call(shop: Engine) -> None:
    task = shop.run("shop/checkout", {"count": 2})
    assert task.state == "complete"
    assert task.results == {"price": {"cents": 300}, "charge": {"paid": 300, "attempt": 1}}
    assert task.step("charge").result == {"paid": 300, "attempt": 1}
    assert assert_succeeded(task.step("price")) == {"cents": 300}


async def test_a_step_stores_what_a_run_of_its_handler_returns(shop: Engine) -> None:
    task = await asyncio.to_thread(shop.run, "shop/checkout", {"count": 2})
    stored = await asyncio.to_thread(task.step, "charge")
    tested = await run_handler(charge, make_context(dependencies={"price": {"cents": 300}}))
    assert stored.outcome is not None
    assert (stored.outcome.success, stored.outcome.status, stored.outcome.result) == (
        tested.success,
        tested.status,
        tested.result,
    )
    assert stored.outcome.metadata.handler_version == tested.metadata.handler_version


def test_an_engine_that_is_closed_says_so(embedded_url: str) -> None:
    with Engine.on_server(embedded_url) as engine:
        pass
    with pytest.raises(RuntimeError, match="the engine is closed"):
        engine.settle()


def test_nothing_of_a_task_runs_before_it_is_told_to(shop: Engine) -> None:
    task = shop.create("shop/checkout", {"count": 1})
    assert {name: one.state for name, one in task.steps.items()} == {"price": "enqueued", "charge": "pending"}
    assert task.results == {}
    shop.settle()
    assert task.state == "complete"


def test_a_retry_in_an_hour_comes_when_the_clock_has_moved(shop: Engine) -> None:
    shop.register_handlers(fail_n_times(1, charge))
    task = shop.run("shop/checkout", {"count": 2})
    assert task.state == "waiting_for_retry"
    waiting = task.step("charge")
    assert_retryable(waiting, message="fails on purpose")
    assert waiting.result is None
    assert waiting.next_retry_at is not None
    assert timedelta(minutes=59) < waiting.next_retry_at - shop.now() <= timedelta(hours=1)

    shop.advance(minutes=30)
    assert task.state == "waiting_for_retry"
    shop.advance(timedelta(minutes=20), minutes=10)
    assert task.state == "complete"
    assert task.results["charge"] == {"paid": 300, "attempt": 2}


def test_finishing_a_task_moves_the_clock_from_retry_to_retry(shop: Engine) -> None:
    shop.register_handlers(fail_n_times(2, charge))
    before = shop.now()
    task = shop.finish(shop.run("shop/checkout", {"count": 1}))
    assert task.state == "complete"
    assert task.step("charge").attempts == 3
    assert shop.now() - before >= timedelta(hours=2)


def test_a_task_whose_attempts_are_used_up_is_blocked(shop: Engine) -> None:
    shop.register_handlers(fail_n_times(9, charge))
    task = shop.finish(shop.run("shop/checkout", {"count": 1}))
    assert task.state == "blocked_by_failures"
    failed = task.step("charge")
    assert (failed.state, failed.attempts, failed.max_attempts) == ("error", 3, 3)


def test_a_permanent_failure_is_not_tried_again(shop: Engine) -> None:
    @step_handler("charge")
    def declines() -> None:
        raise PermanentError("declined", error_code="E1")

    shop.register_handlers(declines)
    task = shop.run("shop/checkout", {"count": 1})
    assert task.state == "blocked_by_failures"
    assert_permanent(task.step("charge"), "permanent_error", message="declined")
    assert task.results == {"price": {"cents": 150}}


def test_a_server_that_asks_for_patience_gets_it(shop: Engine) -> None:
    @step_handler("charge")
    async def busy(context: StepContext) -> str:
        if context.attempt == 1:
            raise RetryableError("busy", retry_after=1200)
        return "paid"

    shop.register_handlers(busy)
    task = shop.run("shop/checkout", {"count": 1})
    assert_retryable(task.step("charge"), retry_after=1200)
    shop.finish(task)
    assert task.results["charge"] == {"result": "paid"}


def test_a_decision_leads_to_the_steps_that_it_names(engine: Engine) -> None:
    @decision_handler("route")
    async def route(count: Annotated[int, Inputs("count")]) -> Decision:
        return Decision.route(["pack"] if count < 10 else ["pallet", "truck"])

    @step_handler("work")
    def work(context: StepContext) -> str:
        return context.step_name

    ways = [
        {"name": name, "handler": "work", "dependencies": ["route"]} for name in ("pack", "pallet", "truck")
    ]
    engine.register_handlers(route, work)
    start = {"name": "start", "handler": "work"}
    engine.register_templates(template(start, step("route", "start", type="decision"), *ways))
    small, large = engine.run("shop/checkout", {"count": 1}), engine.run("shop/checkout", {"count": 10})
    assert_routes(small.step("route"), "pack")
    assert set(small.results) == {"start", "route", "pack"}
    assert set(large.results) == {"start", "route", "pallet", "truck"}


def test_a_batch_runs_with_its_checkpoints(engine: Engine) -> None:
    seen: list[int] = []

    @step_handler("start")
    def start() -> None: ...

    @batch_analyzer("split", worker_template="load")
    async def split(rows: Annotated[int, Inputs("rows")]) -> BatchConfig:
        return BatchConfig(rows, 50)

    @batch_worker("load")
    def load(batch_context: BatchWorkerContext, context: StepContext) -> Any:
        if context.checkpoint_cursor is None:
            return checkpoint_yield(batch_context.start_cursor + 25, 25)
        seen.append(context.checkpoint_cursor)
        return {"rows": batch_context.end_cursor - batch_context.start_cursor}

    @batch_aggregator("total", analyzer="split", workers="load")
    async def total(batches: BatchAggregationScenario) -> int:
        return sum(result["rows"] for result in batches.batch_results.values())

    engine.register_handlers(start, split, load, total)
    engine.register_templates(
        template(
            {"name": "start", "handler": "start"},
            step(
                "split", "start", type="batchable", batch_config={"worker_template": "load", "batch_size": 50}
            ),
            step("load", "split", type="batch_worker"),
            step("total", "load", type="deferred_convergence"),
        )
    )
    task = engine.run("shop/checkout", {"rows": 150})
    assert task.state == "complete"
    assert sorted(seen) == [25, 75, 125]
    assert {"load_001", "load_002", "load_003"} <= set(task.steps)
    assert task.results["total"] == {"result": 150}


def test_a_method_of_a_class_runs(engine: Engine) -> None:
    class Payments(StepHandler):
        handler_name = "payments"

        def call(self, context: StepContext) -> Any:
            return "charged"

        async def refund(self, context: StepContext) -> Any:
            return self.success({"refunded": True})

    engine.register_handlers(Payments)
    refund = {"name": "refund", "handler": {"callable": "payments", "method": "refund"}}
    engine.register_templates(template(refund))
    assert engine.run("shop/checkout").results == {"refund": {"refunded": True}}
    wrong = {"name": "refund", "handler": {"callable": "payments", "method": "nothing"}}
    engine.register_templates(template(wrong, name="wrong"))
    with pytest.raises(HandlerMethodNotFoundError):
        engine.run("shop/wrong")


def test_handlers_and_templates_come_from_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(
        "from tasker.worker import step_handler\n\n\n@step_handler('greet')\ndef greet() -> str:\n    return 'hello'\n"
    )
    folder = tmp_path / "templates" / "shop"
    folder.mkdir(parents=True)
    (folder / "greeting.yaml").write_text(yaml.safe_dump(template(step("greet"), name="greeting")))
    engine.register_handlers(tmp_path / "handlers.py")
    engine.register_templates(tmp_path / "templates")
    assert engine.run("shop/greeting").results == {"greet": {"result": "hello"}}
    newer = template(step("greet"), name="greeting", version="1.1.0")
    (tmp_path / "newer.yml").write_text(yaml.safe_dump(newer))
    engine.register_templates(str(tmp_path / "newer.yml"))
    assert engine.run("shop/greeting/1.0.0").state == engine.run("shop/greeting/1.1.0").state == "complete"


def test_overrides_of_the_environment_apply(embedded_url: str) -> None:
    only_once = {"staging": {"steps": [{"name": "charge", "retry": {"max_attempts": 1}}]}}
    with Engine.on_server(embedded_url, environment="staging") as engine:
        engine.register_handlers(price, charge)
        engine.register_templates(CHECKOUT | {"environments": only_once})
        assert engine.run("shop/checkout", {"count": 1}).step("charge").max_attempts == 1


def test_what_a_client_may_say_goes_with_the_request(shop: Engine) -> None:
    first = shop.run("shop/checkout", {"count": 1}, idempotency_key="order-7", priority=9)
    again = shop.run("shop/checkout", {"count": 1}, idempotency_key="order-7")
    assert first.task_uuid == again.task_uuid


def test_a_handler_that_is_missing_is_told_of_before_anything_runs(engine: Engine) -> None:
    engine.register_handlers(price)
    engine.register_templates(CHECKOUT)
    with pytest.raises(HandlerNotFoundError, match="charge"):
        engine.run("shop/checkout", {"count": 1})


def test_bad_requests_are_refused(shop: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="namespace/name"):
        shop.run("checkout")
    with pytest.raises(UnknownTemplateError):
        shop.run("shop/nothing")
    with pytest.raises(InvalidTemplateError, match="steps"):
        shop.register_templates({"name": "empty"})
    with pytest.raises(TemplateDirectoryError):
        shop.register_templates(tmp_path / "nowhere")
    with pytest.raises(KeyError, match="it has price, charge"):
        shop.create("shop/checkout", {"count": 1}).step("prize")


def test_a_task_that_no_time_finishes_is_told_of(shop: Engine) -> None:
    task = shop.create("shop/checkout", {"count": 1})
    shop._driver._namespaces.clear()  # nobody works for it
    with pytest.raises(TaskNotOverError, match="price: enqueued, charge: pending"):
        shop.finish(task)


def test_tests_do_not_see_each_other(shop: Engine) -> None:
    shop.register_handlers(fail_n_times(9, charge))
    task = shop.run("shop/checkout", {"count": 1})
    shop.advance(days=400)
    later = shop.now()
    shop.reset()
    assert later - shop.now() > timedelta(days=399)
    assert shop.handlers.callables() == ()
    with pytest.raises(LookupError, match="earlier test"):
        _ = task.state
    with pytest.raises(UnknownTemplateError):
        shop.run("shop/checkout")
    shop.register_handlers(price, charge)
    shop.register_templates(CHECKOUT)
    assert shop.run("shop/checkout", {"count": 1}).step("charge").attempts == 1


def test_steps_that_can_run_side_by_side_do(engine: Engine) -> None:
    meeting = threading.Barrier(2, timeout=30)

    @step_handler("meet")
    def meet() -> None:
        meeting.wait()

    engine.register_handlers(meet)
    engine.register_templates(
        template({"name": "left", "handler": "meet"}, {"name": "right", "handler": "meet"})
    )
    assert engine.run("shop/checkout").state == "complete"


async def test_tests_on_a_loop_may_use_it(shop: Engine) -> None:
    task = await asyncio.to_thread(shop.run, "shop/checkout", {"count": 1})
    assert task.state == "complete"


def test_large_results_are_whole(engine: Engine) -> None:
    @step_handler("large")
    def large() -> dict[str, str]:
        return {"text": "x" * 900_000}

    engine.register_handlers(large)
    engine.register_templates(template(*({"name": f"s{n}", "handler": "large"} for n in range(3))))
    results = engine.run("shop/checkout").results
    assert [len(result["text"]) for result in results.values()] == [900_000] * 3
