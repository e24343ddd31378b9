"""What can be said to the command `tasker`."""

from __future__ import annotations

from importlib import import_module

import typer

from tasker.ctl.commands import COMMANDS

#: The verbs of each noun.
GROUPS = {
    noun: typer.main.get_group(import_module(f"tasker.ctl.{noun}").app).commands
    for noun in COMMANDS
    if hasattr(import_module(f"tasker.ctl.{noun}"), "app")
}
#: The commands that call a service, by noun and verb.
CALLS = {
    (noun, verb)
    for noun, verbs in GROUPS.items()
    for verb, command in verbs.items()
    if any(parameter.name == "address" for parameter in command.params)
}
