"""Every command that calls a service can get into a guarded one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from tasker.ctl.commands import app

ACCESS = {"--token", "--api-key", "--api-key-header", "--tls", "--ca", "--cert", "--key", "--allow-plaintext"}


def commands(command: Any, path: str = "tasker") -> Iterator[tuple[str, set[str]]]:
    """Yield every command with its options."""
    context = typer.Context(command, info_name=path)
    if not isinstance(command, TyperGroup):
        yield path, {option for parameter in command.get_params(context) for option in parameter.opts}
        return
    for name in command.list_commands(context):
        yield from commands(command.get_command(context, name), f"{path} {name}")


def test_whatever_takes_an_address_takes_credentials_and_certificates() -> None:
    options = dict(commands(typer.main.get_command(app)))
    calling = {path for path, taken in options.items() if "--address" in taken}
    assert len(calling) > 20
    assert {path: ACCESS - options[path] for path in calling if not options[path] >= ACCESS} == {}
