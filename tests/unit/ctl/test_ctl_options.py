"""Options that many commands share are said once, and each command gets what they make."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from typing import Annotated, Self

import pytest
import typer
from typer.testing import CliRunner

from tasker.ctl.acting import login
from tasker.ctl.options import with_options


@dataclass(frozen=True)
class Place:
    """What is made of two options."""

    town: str
    floor: int

    @classmethod
    def from_options(
        cls,
        town: Annotated[str, typer.Option(help="Which town.")],
        floor: Annotated[int, typer.Option(help="Which floor.")] = 0,
    ) -> Self:
        return cls(town, floor)


@with_options
def send(what: str, *, place: Place, fast: bool = False) -> None:
    """Send something."""
    typer.echo(f"{what} to {place}{' fast' if fast else ''}")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(send)
    return app


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("--town", "Ulm"), "Place(town='Ulm', floor=0)"),
        (("--floor", "3", "--town", "Ulm"), "Place(town='Ulm', floor=3)"),
        (("--town", "Ulm", "--fast"), "Place(town='Ulm', floor=0) fast"),
    ],
)
def test_a_command_gets_what_its_options_make(
    arguments: tuple[str, ...], place: str, app: typer.Typer
) -> None:
    assert CliRunner().invoke(app, ["bread", *arguments]).output == f"bread to {place}\n"


def test_its_help_and_its_errors_are_about_the_options(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "Send something." in shown
    assert [shown.index(option) for option in ("--town", "--floor", "--fast")] == sorted(
        shown.index(option) for option in ("--town", "--floor", "--fast")
    )
    assert "--place" not in shown
    assert "Missing option '--town'" in CliRunner().invoke(app, ["bread"]).output


def test_whoever_has_no_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert login() == f"uid {os.getuid()}"
    monkeypatch.setenv("USER", "ada")
    assert login() == getpass.getuser() == "ada"
