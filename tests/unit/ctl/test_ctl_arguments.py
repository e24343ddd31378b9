"""Arguments that are more than a word: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tasker.ctl.arguments import TemplateName, instant, json_object, template_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop/checkout", TemplateName("shop", "checkout", "")),
        ("shop/checkout/1.0.0", TemplateName("shop", "checkout", "1.0.0")),
        ("shop/checkout:1.0.0", TemplateName("shop", "checkout", "1.0.0")),
    ],
)
def test_a_template_is_named(text: str, name: TemplateName) -> None:
    assert template_name(text) == name


@pytest.mark.parametrize("text", ["", "shop", "/checkout", "shop/", "shop/checkout/", "a/b/c/d", "a b/c"])
def test_what_names_no_template(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="NAMESPACE/NAME"):
        template_name(text)


def test_a_context_is_given_in_place() -> None:
    assert json_object('{"number": 9007199254740993, "name": "é"}') == {"number": 2**53 + 1, "name": "é"}


def test_a_context_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "context.json"
    file.write_text('\ufeff{"a": [1]}', encoding="utf-8")  # as some editors begin a file
    assert json_object(f"@{file}") == {"a": [1]}


def test_a_context_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": 1}')))
    assert json_object("@-") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{even: 6}", r"it is not JSON: .*\(line 1, column 2\); quote it for your shell"),
        ("", "it is not JSON"),
        ("[1]", r"it must be a JSON object such as .*, got list"),
        ("null", "got null"),
        ('"text"', "got str"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": ' + "1" * 5000 + "}", "it is not JSON: Exceeds the limit"),
        ("[" * 100_000, "it is nested too deeply"),
        ("@", "there is no file ''|cannot read"),
        ("@nowhere.json", "there is no file 'nowhere.json'; give @FILE, @- or the JSON itself"),
        ("@/", "cannot read /: Is a directory"),
    ],
)
def test_what_is_no_context(text: str, problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        json_object(text)


@pytest.mark.parametrize(
    ("data", "problem"), [(b"{", "not JSON: Expecting"), (b"\xff\xfe", "is no UTF-8 text"), (b"3", "got int")]
)
def test_a_file_that_holds_no_context_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "context.json"
    file.write_bytes(data)
    with pytest.raises(typer.BadParameter, match=problem) as caught:
        json_object(f"@{file}")
    assert str(file) in str(caught.value)


def test_an_instant_has_a_zone() -> None:
    assert instant("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert instant("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert instant("2026-01-31") == datetime(2026, 1, 31).astimezone()
    assert instant("2026-01-31").tzinfo is not None


def test_an_instant_may_be_a_time_ago() -> None:
    before = datetime.now(UTC)
    assert before <= instant("1h30m") + timedelta(hours=1, minutes=30) <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "90", "0s"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither an instant"):
        instant(text)
