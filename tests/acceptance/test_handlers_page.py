"""The page on handlers tells the truth: its snippets run as a worker would run them, and its tables hold."""

from __future__ import annotations

import asyncio
import builtins
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
import yaml

import tasker.worker
from tasker.config.settings import WorkerSettings
from tasker.domain.results import ErrorType
from tasker.domain.templates.validation import parse
from tasker.persistence.operations.register import register_template
from tasker.testing import make_context, run_handler
from tasker.worker import ErrorClassifier, HandlerRegistry, StepContext, load_handlers, step_handler
from tasker.worker.runtime.worker import Worker
from tests.support.commands import environment
from tests.support.engine import Engine
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")
ORDER = {"email": "ada@example.com", "items": {"pen": 2, "ink": 1}, "discount": 50, "card": "4242"}

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Snippets:
    """The page's blocks, by the file they are for."""

    handlers: str
    tests: str
    price_list: dict[str, Any]
    checkout: dict[str, Any]
    stored: dict[str, Any]


def snippets() -> Snippets:
    blocks: dict[str, list[str]] = {"python": [], "yaml": [], "json": [], "text": []}
    for language, body in _BLOCK.findall(PAGE):
        blocks[language].append(body)
    tests = [body for body in blocks["python"] if "\ndef test_" in body]
    handlers = [body for body in blocks["python"] if body not in tests]
    (one_test,), (price_list, checkout), (stored,) = (
        tests,
        map(yaml.safe_load, blocks["yaml"]),
        blocks["json"],
    )
    return Snippets("\n\n".join(handlers), one_test, price_list, checkout, json.loads(stored))


SNIPPETS = snippets()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table whose heading begins so."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    assert rest, f"the page has no table {heading!r}"
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the reader has in front of them."""
    (tmp_path / "handlers.py").write_text(SNIPPETS.handlers)
    (tmp_path / "test_handlers.py").write_text(SNIPPETS.tests)
    (tmp_path / "templates").mkdir()
    for template in (SNIPPETS.checkout, SNIPPETS.price_list):
        (tmp_path / "templates" / f"{template['name']}.yaml").write_text(yaml.safe_dump(template))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def registry(folder: Path) -> HandlerRegistry:
    registry = load_handlers(folder / "handlers.py")
    assert registry.problems == []
    return registry


def module_of(registry: HandlerRegistry) -> ModuleType:
    """Return the reader's module."""
    return sys.modules[registry.resolve("shop.pack").origin.rpartition(".")[0]]


async def results_of(
    engine: Engine, folder: Path, registry: HandlerRegistry, template: dict[str, Any], **context: Any
) -> dict[str, Any]:
    """Run a workflow of the page on a worker to its end; return the newest result of each step."""
    document = parse(template)
    await register_template(engine.database, document)
    task = (await engine.request(document, ORDER | context)).task.task_uuid
    worker = Worker(
        WorkerSettings.load(database_url=engine.url, template_path=folder / "templates"), registry
    )
    await worker.start()
    try:
        await until(lambda: settled(engine, task))
    finally:
        await worker.stop()
    found = await engine.sql(
        "SELECT s.name, r.success, r.result, r.error, r.metadata, r.status FROM tasker.step_results r "
        "JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) WHERE r.task_uuid = %s ORDER BY r.sort_key",
        task,
    )
    return {
        name: {"success": success, "result": result, "error": error, "metadata": metadata, "status": status}
        for name, success, result, error, metadata, status in found
    }


async def settled(engine: Engine, task: UUID) -> bool:
    """Process what was submitted, let retries come due, and tell whether nothing more happens."""
    await engine.process()
    await engine.move_clock(1)
    await engine.timers.tick()
    return await engine.state(task) in ("complete", "blocked_by_failures")


async def test_the_workflow_of_the_page_runs(engine: Engine, folder: Path, registry: HandlerRegistry) -> None:
    found = await results_of(engine, folder, registry, SNIPPETS.checkout)
    assert {name: row["result"] for name, row in found.items() if name != "charge_card"} == {
        "check_stock": {"pen": 12, "ink": 3},
        "price_cart": {"cents": 400, "currency": "EUR"},
        "reserve": {"for": "ada@example.com", "worth": 400, "kinds": 2},
        "pay": {"paid_with": "test"},
        "refund": {"refunded_with": "test"},
        "pack": {"parcels": 1},
        "export": {"lines": 300},
        "mail": {"sent_to": "ada@example.com", "mail": "mail.receipt"},
        "summary": {"email": "ada@example.com", "cents": 400, "note": "none"},
    }
    assert found["charge_card"]["result"]["charge"] == "400 EUR"  # in its second attempt
    # "This is what is stored for it, times and worker left out."
    packed, shown = found["pack"], SNIPPETS.stored
    assert {key: packed[key] for key in shown if key != "metadata"} == {
        key: value for key, value in shown.items() if key != "metadata"
    }
    assert {key: packed["metadata"][key] for key in shown["metadata"]} == shown["metadata"]
    left_out = set(packed["metadata"]) - set(shown["metadata"])
    assert left_out == {"started_at", "completed_at", "execution_time_ms", "worker_id", "worker_hostname"}


@pytest.mark.parametrize(("rows", "told"), [(1000, False), (1001, True)])
async def test_the_price_list_of_the_page_is_imported(
    engine: Engine, folder: Path, registry: HandlerRegistry, rows: int, told: bool
) -> None:
    found = await results_of(engine, folder, registry, SNIPPETS.price_list, rows=rows)
    assert found["route_list"]["result"]["routing_context"] == {"rows": rows}
    shares = [found[f"import_rows_00{n}"]["result"]["rows"] for n in range(1, 6)]
    assert (sum(shares), max(shares)) == (rows, 200 + told)
    assert found["sum_up"]["result"] == {"lists": 5, "rows": rows, "cents": rows * 100}
    assert found["reindex"]["result"] == {"words": rows * 3}
    assert found["upload"]["result"] == {"resumed_from": 250, "uploaded": rows - 250}
    assert ("tell_buyer" in found) is told


async def test_an_empty_price_list_goes_nowhere(
    engine: Engine, folder: Path, registry: HandlerRegistry
) -> None:
    found = await results_of(engine, folder, registry, SNIPPETS.price_list, rows=0)
    assert set(found) == {"read_list", "route_list"}
    assert found["route_list"]["result"]["reason"] == "the list is empty"


def with_handlers(template: dict[str, Any], **handlers: str) -> dict[str, Any]:
    """Return another version of a template, whose steps of those names have other handlers."""
    steps = [step | {"handler": handlers.get(step["name"], step["handler"])} for step in template["steps"]]
    return template | {"version": "1.1.0", "steps": steps}


async def test_the_classes_of_the_page_decide_and_split(
    engine: Engine, folder: Path, registry: HandlerRegistry
) -> None:
    template = with_handlers(
        SNIPPETS.price_list, route_list="shop.list_router", plan_import="shop.import_planner"
    )
    found = await results_of(engine, folder, registry, template, rows=1001)
    assert found["route_list"]["result"]["routing_context"] == {"rows": 1001}
    assert "tell_buyer" in found
    assert [found[f"import_rows_00{n}"]["result"]["rows"] for n in range(1, 7)] == [200] * 5 + [1]
    assert found["sum_up"]["result"] == {"lists": 6, "rows": 1001, "cents": 100_100}


async def test_the_classes_of_the_page_find_nothing_to_do(registry: HandlerRegistry) -> None:
    nothing = make_context(dependencies={"read_list": 0})
    for name in ("ListRouter", "ImportPlanner"):
        result = (await run_handler(getattr(module_of(registry), name), nothing)).result
        assert result["reason"] == "the list is empty"


REPORT = """
name: report
namespace_name: shop
version: 1.0.0
steps:
  - name: plan_report
    type: batchable
    handler: shop.plan_report
    batch_config: {worker_template: import_rows}
  - {name: import_rows, type: batch_worker, dependencies: [plan_report], handler: shop.import_rows}
  - {name: report_week, type: batch_worker, dependencies: [plan_report], handler: shop.report_week}
"""


@pytest.mark.parametrize(
    ("weeks", "reports"),
    [
        (2, {"report_week_001": {"last_day": "2026-01-11"}, "report_week_002": {"last_day": "2026-01-18"}}),
        (0, {"report_week_000": {"no_op": True, "batch_id": "000", "processed_count": 0}}),
    ],
)
async def test_the_ranges_of_the_page_go_to_the_worker_that_their_handler_names(
    engine: Engine, folder: Path, registry: HandlerRegistry, weeks: int, reports: dict[str, Any]
) -> None:
    template = yaml.safe_load(REPORT)
    found = await results_of(engine, folder, registry, template, first_day="2026-01-05", weeks=weeks)
    assert {name: row["result"] for name, row in found.items() if name != "plan_report"} == reports


async def test_the_table_of_batches_holds() -> None:
    for written, instances in rows("The analyzer returns"):
        (code,) = quoted(written)
        outcome = eval(code, vars(tasker.worker)).to_json()
        parts = outcome["batch_processing_outcome"].get("cursor_configs", [])
        sizes = [part["batch_size"] for part in parts]
        numbers = [int(number) for number in re.findall(r"[0-9]+", instances)]
        assert len(sizes) == (numbers[0] if numbers else 0), code
        assert sorted(set(sizes)) == sorted(numbers[1:]), code
    assert outcome["rows"] == 12


async def test_what_the_page_says_of_errors_is_stored(
    engine: Engine, folder: Path, registry: HandlerRegistry
) -> None:
    declined = (await results_of(engine, folder, registry, SNIPPETS.checkout, card="expired"))["charge_card"]
    assert (declined["error"]["error_type"], declined["metadata"]["error_code"]) == (
        "card_declined",
        "EXPIRED",
    )
    assert declined["metadata"]["context"]["cents"] == 400
    assert declined["metadata"]["context"]["exception_class"] == "CardDeclinedError"


async def test_the_tests_of_the_page_pass(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_handlers.py",
        cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert f"{SNIPPETS.tests.count('def test_')} passed" in out.decode()


async def test_missing_and_misfitting_values_are_named(registry: HandlerRegistry) -> None:
    price_cart = module_of(registry).price_cart
    result = await run_handler(price_cart, make_context(inputs={"email": 3}, config={"cents_each": "free"}))
    assert result.error is not None
    assert (result.error.error_type, result.error.retryable) == ("validation_error", False)
    for field in ("inputs.email", "inputs.items", "dependencies.check_stock", "config.cents_each"):
        assert field in result.error.message


async def test_the_table_of_results_holds(registry: HandlerRegistry) -> None:
    known = {"Price": module_of(registry).Price, "date": date}
    for written, stored in rows("You write"):
        (code,), (shown,) = quoted(written), quoted(stored)
        returned = eval(code.removeprefix("return "), known)

        @step_handler("row")
        def row(returned: object = returned) -> object:
            return returned

        assert (await run_handler(row)).result == json.loads(shown), code


def test_the_table_of_errors_holds() -> None:
    listed = rows("Raised")
    assert len(listed) == 7
    for raised, again, kind in listed:
        for name in quoted(raised):
            error = getattr(tasker.worker, name, None) or getattr(builtins, name)
            verdict = ErrorClassifier.classify(error("x"))
            assert verdict.retryable is (again == "yes"), name
            assert [verdict.error_type] == quoted(kind), name


def test_the_tables_name_what_there_is() -> None:
    members = [name.removesuffix("()") for row in rows("Member") for name in quoted(row[0])]
    mixins = (tasker.worker.Batchable, tasker.worker.DecisionHandler)
    methods = [name for _, cell in rows("Step") for name in quoted(cell)]
    assert [name for name in methods if not any(hasattr(mixin, name) for mixin in mixins)] == []
    assert [name for name in members if not hasattr(StepContext, name)] == []
    kinds = [name for row in rows("`error_type` | What happened") for name in quoted(row[0])]
    assert set(kinds) <= set(ErrorType)


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^## (.*)$", PAGE, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert target.startswith("https://") or (ROOT / "docs" / path).exists(), target
        assert not anchor or path or anchor in anchors, target


def test_no_snippet_is_overlooked() -> None:
    assert 2 * len(_BLOCK.findall(PAGE)) == len(re.findall(r"^```", PAGE, re.M))
