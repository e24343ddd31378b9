"""What is printed for people cannot steer their terminal; what is printed for programs is JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

import pytest

from tasker.client import HealthCheck, StepState, StepUpdate
from tasker.ctl.output import Output, brief, plain, shown
from tests.unit.client.scripted import STEP, TASK

UPDATE = StepUpdate(
    task_uuid=TASK,
    step_uuid=STEP,
    name="price_cart",
    at=datetime(2026, 1, 2, 12, tzinfo=UTC),
    state=StepState.IN_PROGRESS,
    attempt=2,
)


def test_a_record_becomes_an_object_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.write(UPDATE, type="step_update")
    output.write({"text": "a\nb\ud800"})
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {
        "type": "step_update",
        "task_uuid": str(TASK),
        "step_uuid": str(STEP),
        "name": "price_cart",
        "at": "2026-01-02T12:00:00+00:00",
        "state": "in_progress",
        "attempt": 2,
        "cursor": None,
    }
    assert json.loads(second) == {"text": "a\nb\ud800"}


def test_what_is_inside_a_record_is_json_too() -> None:
    check = HealthCheck(status="healthy", message=None, duration_ms=3)
    value = {"checks": MappingProxyType({"queue": check}), "uuids": (UUID(int=1),), "plain": [1, True, None]}
    assert plain(value) == {
        "checks": {"queue": {"status": "healthy", "message": None, "duration_ms": 3}},
        "uuids": ["00000000-0000-0000-0000-000000000001"],
        "plain": [1, True, None],
    }


def test_control_characters_are_spelt_out() -> None:
    assert shown("a\x1b[31mb\x07\r\u202ec é 😀\nd").plain == "a\\x1b[31mb\\x07\\r\\u202ec é 😀\nd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 10, "x" * 10),
        ("x" * 11, "xxxxxxxxxx ... (11 characters)"),
        ("one two  three\n four", "one two th ... (18 characters)"),
        ("x" * 4321, "xxxxxxxxxx ... (4,321 characters)"),
        ("\x1b[31m", "\\x1b[31m"),
    ],
    ids=ascii,
)
def test_a_long_text_is_shortened_to_one_line(value: str, text: str) -> None:
    assert brief(value, 10).plain == text


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.say("[red]not red[/]", shown("[bold]neither[/]"))
    assert capsys.readouterr().out == "[red]not red[/]\n[bold]neither[/]\n"


def test_long_lines_are_left_whole_where_nobody_looks_at_the_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(as_json=False).say(shown("x" * 500))
    assert capsys.readouterr().out == "x" * 500 + "\n"
