"""What a log line must not hold."""

from __future__ import annotations

import io
from typing import Literal

import pytest
import structlog

from tasker.telemetry.logs import configure_logs


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_traceback_holds_no_local_variables(
    form: Literal["json", "console"],
) -> None:
    stream = io.StringIO()
    before = structlog.get_config()
    try:
        configure_logs("info", format=form, stream=stream)
        try:
            password = "hunter" + "2"
            raise RuntimeError(f"it broke with {len(password)} characters")
        except RuntimeError:
            structlog.get_logger("test").exception("step_failed")
    finally:
        structlog.configure(**before)
    assert "it broke with 7 characters" in stream.getvalue()
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


def line(form: Literal["json", "console"], level: Literal["info", "debug"], **facts: str) -> str:
    stream = io.StringIO()
    before = structlog.get_config()
    try:
        configure_logs(level, format=form, stream=stream)
        structlog.get_logger("test").warning("step_attempt_failed", **facts)
    finally:
        structlog.configure(**before)
    return stream.getvalue()
