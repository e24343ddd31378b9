"""The reference in docs/command-line.md is what `--help` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from tasker.ctl.commands import app

DOCUMENT = Path(__file__).parents[3] / "docs" / "command-line.md"
MARK = "<!-- Made from the commands' own help by tests/unit/ctl/test_ctl_reference.py: change those instead. -->\n"


def helps(command: Any, name: str, parent: typer.Context | None = None) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands."""
    context = typer.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"### {context.command_path}\n\n```text\n{text}\n```\n"
    if isinstance(command, TyperGroup):
        for subcommand in sorted(command.list_commands(context)):
            yield from helps(command.get_command(context, subcommand), subcommand, context)


def test_docs_command_line_md_is_what_help_says() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    before, mark, reference = page.partition(MARK)
    assert mark
    wanted = "\n" + "\n".join(helps(typer.main.get_command(app), "tasker"))
    if reference != wanted:
        DOCUMENT.write_text(before + mark + wanted, encoding="utf-8")
        pytest.fail("docs/command-line.md was out of date and has been written anew; commit it")
