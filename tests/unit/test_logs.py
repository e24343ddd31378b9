"""What the log of a service holds, and what handlers' own set-up does to it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from tasker.telemetry.logs import _OUTPUT, PROCESSORS, configure_logs, get_logger
from tests.support.commands import environment

PROJECT = Path(__file__).parents[2]
HANDLERS_PAGE = (PROJECT / "docs" / "handlers.md").read_text()
FACTS = ["correlation_id", "task_uuid", "step_uuid", "step_name", "attempt"]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was: all tests of the process share it."""
    theirs, ours, last = structlog.get_config(), PROCESSORS[:], logging.lastResort
    levels = {
        name: logging.getLogger(name).level for name in ("", "httpx", "psycopg", "psycopg.pool", "asyncio")
    }
    yield
    structlog.configure(**theirs)
    PROCESSORS[:], logging.lastResort, _OUTPUT.stream = ours, last, None
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_traceback_holds_no_local_variables(
    form: Literal["json", "console"],
) -> None:
    stream = io.StringIO()
    configure_logs("info", format=form, stream=stream)
    try:
        password = "hunter" + "2"
        raise RuntimeError(f"it broke with {len(password)} characters")
    except RuntimeError:
        get_logger("test").exception("step_failed")
        structlog.get_logger("theirs").exception("step_failed")
    assert stream.getvalue().count("it broke with 7 characters") >= 2
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    ("form", "level", "shown"),
    [("json", "info", True), ("console", "info", False), ("console", "debug", True)],
)
def test_the_traceback_of_a_failed_step_is_for_programs_and_for_who_debugs(
    form: Literal["json", "console"], level: Literal["info", "debug"], shown: bool
) -> None:
    assert ("line 7 of shop.py" in line(form, level, traceback="line 7 of shop.py")) is shown


def test_what_an_author_says_at_length_is_shortened() -> None:
    written = line("json", "info", error="x" * 5_000, traceback="y" * 15_000)
    assert (written.count("x"), written.count("y")) == (1_000, 15_000)


def test_what_a_line_is_of_comes_first() -> None:
    facts = dict.fromkeys(["zone", *reversed(FACTS)], "x")
    assert list(json.loads(line("json", "info", **facts)))[: len(FACTS) + 1] == [*FACTS, "zone"]


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure_logs("warning", format="json", stream=stream)
    get_logger("test").info("no")
    get_logger("test").warning("yes")
    assert [json.loads(one)["event"] for one in stream.getvalue().splitlines()] == ["yes"]


def test_standard_logging_is_shown_as_lines_of_the_service_until_somebody_sets_it_up() -> None:
    stream = io.StringIO()
    configure_logs("info", format="json", stream=stream)
    shop, root = logging.getLogger("shop.orders"), logging.getLogger()
    # pytest's own handlers would take the lines.
    kept, root.handlers = root.handlers, []
    try:
        shop.debug("too low")
        shop.info("sold %d", 3, extra={"sku": "pen"})
        logging.getLogger("httpx").info("chatter")
        try:
            raise KeyError("gone")
        except KeyError:
            shop.exception("failed")
        mine = io.StringIO()
        logging.basicConfig(level=logging.DEBUG, format="MINE %(name)s %(message)s", stream=mine)
        shop.info("mine now")
    finally:
        root.handlers = kept
    sold, failed = map(json.loads, stream.getvalue().splitlines())
    assert (sold["event"], sold["logger"], sold["level"], sold["sku"]) == (
        "sold 3",
        "shop.orders",
        "info",
        "pen",
    )
    assert (failed["event"], failed["exception"][0]["exc_type"]) == ("failed", "KeyError")
    assert mine.getvalue() == "MINE shop.orders mine now\n"


def test_no_module_of_a_service_has_a_logger_that_handlers_can_change() -> None:
    sources = [
        path
        for root in ("shared", "orchestration", "worker", "ctl")
        for path in (PROJECT / root).rglob("*.py")
    ]
    assert [str(path) for path in sources if "structlog.get_logger" in path.read_text()] == []


HANDLERS = """
import asyncio, logging, os, sys
import logging.config
import structlog
from tasker.worker import StepContext, step_handler

match os.environ.get("MODE"):
    case "basicConfig":
        logging.basicConfig(level=logging.INFO, format="MINE %(message)s", stream=sys.stdout)
    case "dictConfig":
        logging.config.dictConfig({
            "version": 1,
            "formatters": {"mine": {"format": "MINE %(message)s"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "mine", "stream": "ext://sys.stdout"}},
            "root": {"handlers": ["out"], "level": "INFO"},
        })
    case "handler":
        out = logging.StreamHandler(sys.stdout)
        out.setFormatter(logging.Formatter("MINE %(message)s"))
        logging.getLogger().addHandler(out)
    case "structlog":
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, lambda _, __, line: f"MINE {line}"],
            logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        )

standard, structured = logging.getLogger("shop"), structlog.get_logger()

def say(where):
    standard.info(f"standard {where}")
    structured.info(f"structured {where}")

@step_handler("async")
async def in_the_loop(context: StepContext):
    say("async")
    async def own():
        say("own task")
    await asyncio.gather(own(), asyncio.to_thread(say, "to_thread"))
    context.logger.info("bound", sku="pen")

@step_handler("sync")
def in_a_thread():
    say("sync")
"""

PROGRAM = """
import asyncio
from tasker.telemetry.logs import configure_logs, get_logger
from tasker.worker import load_handlers
from tasker.testing import make_context, run_handler

configure_logs("info", format="json")
registry = load_handlers("handlers.py")
for name in ("async", "sync"):
    assert asyncio.run(run_handler(registry.resolve(name), make_context(step_name=name))).success
get_logger("ours").info("ours", number=1)
get_logger("ours").debug("not this")
"""

SAID = {
    f"{how} {where}"
    for how in ("standard", "structured")
    for where in ("async", "own task", "to_thread", "sync")
}


def test_lines_of_handlers_that_set_up_nothing_are_lines_of_the_service_and_say_whose_they_are(
    tmp_path: Path,
) -> None:
    """The page for authors shows one of them."""
    (shown,) = (
        list(json.loads(one)) for one in HANDLERS_PAGE.splitlines() if one.startswith('{"correlation_id')
    )
    out, lines = run(tmp_path, None)
    assert out == []
    assert {one["event"] for one in lines} == {*SAID, "bound", "ours"}
    for one in lines:
        assert one["level"] == "info"
        assert "timestamp" in one
        if one["event"] == "ours":
            assert not set(FACTS) & set(one)
        else:
            assert list(one)[: len(FACTS)] == FACTS
            assert not one["event"].startswith("standard") or list(one) == shown
            assert one["step_name"] == ("sync" if one["event"].endswith(" sync") else "async")
            assert one["attempt"] == 1


@pytest.mark.parametrize("mode", ["basicConfig", "dictConfig", "handler", "structlog"])
def test_what_handlers_set_up_holds_for_their_lines_and_changes_none_of_the_service(
    tmp_path: Path, mode: str
) -> None:
    out, lines = run(tmp_path, mode)
    theirs, ours = ("structured", "standard") if mode == "structlog" else ("standard", "structured")
    assert len(out) == 4
    for one in out:
        assert one.startswith("MINE ")
        assert theirs in one
        assert mode != "structlog" or all(fact in one for fact in FACTS)
    assert {one["event"] for one in lines} == {
        *(said for said in SAID if said.startswith(ours)),
        "bound",
        "ours",
    }
    assert [list(one) for one in lines if one["event"] == "ours"] == [
        ["number", "event", "level", "timestamp"]
    ]


def run(folder: Path, mode: str | None) -> tuple[list[str], list[dict[str, Any]]]:
    """Run the handlers in a process; return what it printed, and the lines of its log."""
    (folder / "handlers.py").write_text(HANDLERS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=environment(**({"MODE": mode} if mode else {})),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), [json.loads(one) for one in done.stderr.splitlines()]


def line(form: Literal["json", "console"], level: Literal["info", "debug"], **facts: str) -> str:
    stream = io.StringIO()
    configure_logs(level, format=form, stream=stream)
    get_logger("test").warning("step_attempt_failed", **facts)
    return stream.getvalue()
