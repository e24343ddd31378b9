"""From a template's `handler` to what runs: methods, resolvers, discovery."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any

import pytest
from structlog.testing import capture_logs

from tasker.domain.templates.validation import parse
from tasker.worker import (
    Dep,
    HandlerDefinition,
    HandlerRegistry,
    Inputs,
    RegistryResolver,
    StepContext,
    StepHandler,
    load_handlers,
    step_handler,
)
from tasker.worker.handlers.checking import HandlersUnfitError, check_handlers
from tests.integration.runtime.conftest import StartWorker
from tests.integration.runtime.stored import recorded, run_to_the_end, settled
from tests.support import services
from tests.support.commands import running
from tests.support.engine import NAMESPACE, Engine, graph
from tests.support.waiting import until

HERE = f"{__name__}.Looked"


class Looked(StepHandler):
    """What a dotted path leads to."""

    def call(self, context: StepContext) -> Any:
        return {"by": "class lookup"}


@step_handler("explicit")
async def explicit() -> dict[str, str]:
    return {"by": "explicit mapping"}


@step_handler("custom")
async def custom() -> dict[str, str]:
    return {"by": "custom resolver"}


class Custom(RegistryResolver):
    name = "custom"
    prefix = "tests."

    def __init__(self) -> None:
        self.asked: list[HandlerDefinition] = []

    def resolve_handler(self, definition: HandlerDefinition) -> object | None:
        self.asked.append(definition)
        return None if definition.callable.endswith("Unknown") else custom


class Later(Looked):
    def later(self, context: StepContext) -> Any:
        return {"by": "later"}


class Unknown(Looked):
    """One that the custom resolver is asked for and does not know."""


class Payments(StepHandler):
    handler_name = "payments"

    def call(self, context: StepContext) -> Any:
        return {"by": "call"}

    def refund(self, context: StepContext) -> Any:
        return self.success({"by": "refund"})

    async def refund_later(self, context: StepContext) -> Any:
        return {"by": "refund_later"}

    def _secret(self, context: StepContext) -> Any:
        raise AssertionError("it is private")


def handled_by(**handlers: dict[str, Any] | str) -> dict[str, Any]:
    """Return a template of one step for each of these handlers."""
    return graph({}) | {"steps": [{"name": name, "handler": handler} for name, handler in handlers.items()]}


async def test_a_template_may_name_a_method(engine: Engine, start_worker: StartWorker) -> None:
    methods = ("call", "refund", "refund_later", "_secret", "ghost", "success")
    document = handled_by(**{f"s{n}": {"callable": "payments", "method": m} for n, m in enumerate(methods)})
    registry = HandlerRegistry()
    registry.register(Payments)
    task = await engine.create(document)
    await start_worker(document, registry=registry, refusal_limit_seconds=0)
    found = await run_to_the_end(engine, task)
    by_method = {method: found[f"s{n}"] for n, method in enumerate(methods)}
    for method in ("call", "refund", "refund_later"):
        assert by_method[method].result == {"by": method}
    for method in ("_secret", "ghost", "success"):
        error = by_method[method].error
        assert (error["error_type"], error["retryable"]) == ("handler_method_not_found", False)
        assert repr(method) in error["message"]
        assert "'payments'" in error["message"]


async def refused(engine: Engine, count: int) -> bool:
    """Process what was submitted; tell whether so many messages have been put back."""
    await engine.process()
    ((found,),) = await engine.sql(
        "SELECT count(*) FROM pgmq.q_worker_test_queue WHERE message ->> 'refusals' IS NOT NULL"
    )
    return bool(found == count)


class Reimbursing(Payments):
    """What the next version of the class can do."""

    handler_name = "payments"

    def reimburse(self, context: StepContext) -> Any:
        return {"by": "reimburse"}


@pytest.mark.parametrize("direct", [True, False], ids=["the short way", "by messages"])
async def test_a_new_method_or_resolver_waits_for_a_worker_that_has_it(
    engine: Engine, start_worker: StartWorker, direct: bool
) -> None:
    """A rolling deploy: the old workers have the handlers, and neither their new method nor the new resolver."""
    document = handled_by(
        first="explicit",
        method={"callable": "payments", "method": "reimburse"},
        resolver={"callable": "explicit", "resolver": "custom"},
        path={"callable": HERE, "method": "later"},
    )
    for step in document["steps"][1:]:
        step["dependencies"] = ["first"]
    old, new = HandlerRegistry(), HandlerRegistry()
    for registry, payments in ((old, Payments), (new, Reimbursing)):
        registry.register(explicit)
        registry.register(payments)
    new.add_resolver(Custom())
    new.register(Later, name=HERE)
    task = await engine.create(document)
    await start_worker(document, registry=old, direct_completion=direct)
    await until(lambda: refused(engine, 3))
    found = await engine.steps(task)
    assert {found[name].state for name in ("method", "resolver", "path")} == {"enqueued"}
    assert {found[name].attempts for name in ("method", "resolver", "path")} == {0}
    await start_worker(document, registry=new, direct_completion=direct)
    await engine.move_clock(31)  # longer than a refusal's longest delay
    done = await run_to_the_end(engine, task)
    assert [done[name].result["by"] for name in ("method", "resolver", "path")] == [
        "reimburse",
        "custom resolver",
        "later",
    ]
    assert await engine.state(task) == "complete"


async def test_a_new_method_never_fails_while_a_live_worker_has_it(
    engine: Engine, start_worker: StartWorker
) -> None:
    """However long the old workers refuse it."""
    document = handled_by(s1={"callable": "payments", "method": "reimburse"})
    old, new = HandlerRegistry(), HandlerRegistry()
    old.register(Payments)
    new.register(Reimbursing)
    await engine.register_worker(
        namespaces=[NAMESPACE], handlers=["payments#reimburse"]
    )  # it is slow, and lives
    task = await engine.create(document)
    await start_worker(document, registry=old, refusal_limit_seconds=0)
    await until(lambda: refused(engine, 1))
    await start_worker(document, registry=new, refusal_limit_seconds=0)

    async def claimed() -> bool:
        """Let its message come back, which either worker may take."""
        await engine.beat(slots_in_use=1)
        await engine.move_clock(31)
        return (await engine.states(task))["s1"] != "enqueued"

    await until(claimed)
    assert (await run_to_the_end(engine, task))["s1"].result == {"by": "reimburse"}


async def test_a_plan_of_an_older_release_asks_for_the_method_from_now_on(engine: Engine) -> None:
    document = handled_by(s1={"callable": "payments", "method": "refund"})
    await engine.create(document)
    await engine.sql("UPDATE tasker.template_steps SET handler = 'payments'")
    async with Engine(engine.url) as newer:
        task = await newer.create(document, {"again": True})
    ((wanted,),) = await engine.sql("SELECT handler FROM tasker.workflow_steps WHERE task_uuid = %s", task)
    assert wanted == "payments#refund"


async def test_an_unknown_resolver_is_an_explicit_error(engine: Engine, start_worker: StartWorker) -> None:
    document = handled_by(
        known={"callable": "explicit", "resolver": "oracle"},
        unknown={"callable": "ghost", "resolver": "oracle"},
    )
    registry = HandlerRegistry()
    registry.register(explicit)
    task = await engine.create(document)
    with capture_logs() as logs:
        await start_worker(document, registry=registry, refusal_limit_seconds=0)
    (missing,) = [line for line in logs if line["event"] == "handler_missing"]  # one line a template
    assert missing["steps"] == ["known", "unknown"]
    assert "wants resolver 'oracle'" in missing["problem"]
    found = await run_to_the_end(engine, task)
    for row in found.values():
        assert (row.error["error_type"], row.error["retryable"]) == ("handler_not_found", False)
        assert "wants resolver 'oracle', which this worker does not have" in row.error["message"]
        assert "known: explicit_mapping, class_lookup" in row.error["message"]


async def test_a_custom_resolver_stands_between_explicit_names_and_dotted_paths(
    engine: Engine, start_worker: StartWorker
) -> None:
    registered = f"{__name__}.Registered"
    resolver = Custom()
    registry = HandlerRegistry()
    registry.register(Looked, name=registered)
    registry.add_resolver(resolver)
    assert registry.resolvers() == ("explicit_mapping", "custom", "class_lookup")
    document = handled_by(
        registered=registered,
        found_by_both=HERE,
        passed_on=f"{__name__}.Unknown",
        hint_to_class={"callable": HERE, "resolver": "class_lookup"},
        hint_past_prefix={"callable": "elsewhere", "resolver": "custom"},
        hint_to_nobody={"callable": f"{__name__}.Unknown", "resolver": "custom"},
    )
    task = await engine.create(document)
    await start_worker(document, registry=registry, refusal_limit_seconds=0)
    found = await run_to_the_end(engine, task)
    results = {name: row.result.get("by") for name, row in found.items()}
    assert results == {
        "registered": "class lookup",  # what was registered under the name
        "found_by_both": "custom resolver",
        "passed_on": "class lookup",
        "hint_to_class": "class lookup",
        "hint_past_prefix": "custom resolver",
        "hint_to_nobody": None,
    }
    error = found["hint_to_nobody"].error
    assert (error["error_type"], error["retryable"]) == ("handler_not_found", False)
    assert "resolver 'custom' does not know it" in error["message"]
    assert registered not in {definition.callable for definition in resolver.asked}


@pytest.fixture
def handlers(tmp_path: Path) -> Path:
    """A folder of handler modules, one of which does not import."""
    folder = tmp_path / "shop_handlers"
    folder.mkdir()
    modules = {
        "cards": """
            from tasker.worker import StepHandler, step_handler

            @step_handler("pay")
            def pay():
                return {"by": "function"}

            class Refund(StepHandler):
                handler_name = "refund"
                def call(self, context):
                    return {"by": "class"}
            """,
        "again": "from shop_handlers_cards import Refund, pay\n",
        "broken": "raise RuntimeError('the settings are missing')\n",
    }
    for name, source in modules.items():
        (folder / f"shop_handlers_{name}.py").write_text(dedent(source))
    return folder


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let what a test imports from its folder be forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("shop_handlers_")]:
        del sys.modules[name]


async def test_discovery_survives_a_broken_module(
    engine: Engine, start_worker: StartWorker, handlers: Path
) -> None:
    registry = load_handlers(handlers)
    assert registry.callables() == ("pay", "refund")  # each once, though two modules have them
    document = handled_by(pay="pay", refund="refund", ship="ship")
    task = await engine.create(document)
    with capture_logs() as logs:
        await start_worker(document, registry=registry, refusal_limit_seconds=0)
    (left_out,) = [line for line in logs if line["event"] == "handlers_left_out"]
    assert "shop_handlers_broken" in left_out["problem"]
    assert "the settings are missing" in left_out["problem"]
    found = await run_to_the_end(engine, task)
    assert (found["pay"].result, found["refund"].result) == ({"by": "function"}, {"by": "class"})
    # Whoever misses a handler is told where it may have gone.
    assert found["ship"].error["error_type"] == "handler_not_found"
    assert "the settings are missing" in found["ship"].error["message"]


async def test_a_worker_process_goes_on_without_a_broken_module(
    engine: Engine, database_url: str, handlers: Path, tmp_path: Path
) -> None:
    document = handled_by(pay="pay")
    services.write_templates(tmp_path / "templates", document)
    task = await engine.create(document)
    settings = {
        "DATABASE_URL": database_url,
        "TASKER_TEMPLATE_PATH": "templates",
        "PYTHON_HANDLER_PATH": handlers.name,
    }
    async with running("worker", cwd=tmp_path, **settings) as worker:
        await worker.says(r"handlers_left_out", on="err")
        await until(lambda: settled(engine, task))
        ended = await worker.signalled(signal.SIGTERM)
    assert (ended.code, await engine.state(task)) == (0, "complete")


async def test_a_resolver_in_a_handler_module_is_found(
    engine: Engine, start_worker: StartWorker, handlers: Path
) -> None:
    (handlers / "shop_handlers_mail.py").write_text(
        dedent("""
            from tasker.worker import RegistryResolver, step_handler

            @step_handler("mail.any")
            def mail():
                return {"by": "mail"}

            class Mail(RegistryResolver):
                name = "mail"
                pattern = r"mail\\.\\w+$"
                def resolve_handler(self, definition):
                    return mail
            """)
    )
    registry = load_handlers(handlers)
    document = handled_by(welcome="mail.welcome", goodbye="mail.goodbye")
    task = await engine.create(document)
    await start_worker(document, registry=registry)
    found = await recorded(engine, task, results=2)
    assert {row.result["by"] for row in found.values()} == {"mail"}


async def test_handlers_that_do_not_fit_are_told_at_the_start_or_prevent_it(
    engine: Engine, start_worker: StartWorker
) -> None:
    """What would fail each task of the template is known before there is one."""

    @step_handler("takes")
    def takes(ghost: Annotated[Any, Dep("ghost")]) -> Any:
        return ghost

    registry = HandlerRegistry()
    registry.register(takes)
    document = handled_by(a="takes", b="nobody", c="nobody")
    with capture_logs() as logs:
        await start_worker(document, registry=registry)
    told = [line for line in logs if line["event"].startswith("handler_")]
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("handler_missing", "warning"),
        ("handler_unfit", "warning"),
    ]
    assert (told[0]["steps"], told[0]["known"]) == (["b", "c"], "takes")
    assert told[0]["problem"] == "no registered handler answers to 'nobody'"
    assert "takes the result of 'ghost', which is no step above it; above it: none" in told[1]["problem"]
    with pytest.raises(HandlersUnfitError, match=r"step 'b': no registered.*step 'a': handler 'takes' takes"):
        await start_worker(document, registry=registry, strict_handlers=True)


def test_a_schema_that_leaves_keys_open_is_not_held_against_handlers() -> None:
    @step_handler("takes")
    def takes(key: Annotated[Any, Inputs("key")], given: Annotated[Any, Inputs("given")]) -> Any:
        return key, given

    registry = HandlerRegistry()
    registry.register(takes)

    def problems(schema: dict[str, Any] | None) -> int:
        document = handled_by(a="takes") | {"default_context": {"given": 1}}
        template = parse(document if schema is None else document | {"input_schema": schema})
        return len(check_handlers(template, registry).problems)

    named = {"type": "object", "properties": {"other": {}}}
    assert problems(named) == problems(named | {"additionalProperties": False}) == 1
    assert problems(None) == problems({"type": "object"}) == 0
    for key in ("$ref", "allOf", "patternProperties"):
        value: Any = {"$ref": "#/$defs/more"}.get(key) or ([{}] if key == "allOf" else {})
        assert problems(named | {"$defs": {"more": {}}, key: value if key != "$ref" else "#/$defs/more"}) == 0
    for more in (True, {}, {"type": "string"}):
        assert problems(named | {"additionalProperties": more}) == 0
