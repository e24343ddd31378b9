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
