"""What a command prints: tables and text for people, JSON for programs; never both."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from rich.console import Console, RenderableType
from rich.text import Text

Shown = TypeVar("Shown")

#: Where nobody looks at the width, such as a file, a table is as wide as what is in it.
_ENDLESS: Final = 10_000


class Output:
    """Prints to stdout as the user asked.

    Attributes:
        as_json: Whether programs read it: one object, or one object a line.
        console: Standard output for people; colours only on a terminal.
        errors: Standard error, for what is not the answer: what goes on, and remarks.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, markup=False)
        if not self.console.is_terminal:
            self.console.width = _ENDLESS
        self.errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    @property
    def is_live(self) -> bool:
        """Whether somebody watches: what is shown may be shown anew."""
        return sys.stdout.isatty() and not self.console.is_dumb_terminal and not self.as_json

    def say(self, *parts: RenderableType) -> None:
        """Print for people."""
        for part in parts:
            if self.console.is_terminal:
                self.console.print(part, soft_wrap=isinstance(part, str))
                continue
            with self.console.capture() as printed:
                self.console.print(part)
            # Nobody wants the blanks that fill a table up.
            sys.stdout.write("\n".join(line.rstrip(" ") for line in printed.get().split("\n")))
            sys.stdout.flush()

    def show(self, record: Shown, look: Callable[[Shown], RenderableType]) -> None:
        """Print one record: as an object for programs, as it looks to people for them."""
        if self.as_json:
            self.write(record)
        else:
            self.say(look(record))

    def show_all(
        self,
        records: Sequence[Shown],
        look: Callable[[Sequence[Shown]], RenderableType],
        *,
        none: str = "",
    ) -> None:
        """Print several records: an object a line for programs, as they look to people for them; `none` for none."""
        if self.as_json:
            for record in records:
                self.write(record)
        else:
            self.say(look(records) if records or not none else none)

    def write(self, record: object, **more: object) -> None:
        """Print one object for programs, on a line of its own and at once."""
        sys.stdout.write(json.dumps(more | plain(record)) + "\n")
        sys.stdout.flush()

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Show what goes on for as long as the block takes, if somebody watches."""
        if self.as_json or not self.errors.is_terminal:
            yield
            return
        with self.errors.status(shown(f"{doing} ...")):
            yield


def plain(value: Any) -> Any:
    """Return a record as JSON knows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def brief(value: object, most: int, style: str = "") -> Text:
    """Return a text as `shown` does, on one line, and shortened to so many characters if it has more."""
    line = " ".join(str(value).split())
    if len(line) > most:
        line = f"{line[:most].rstrip()} ... ({len(line):,} characters)"
    return shown(line, style)


def shown(value: object, style: str = "") -> Text:
    """Return a text that others wrote so that it cannot steer the terminal: control characters are spelt out."""
    text = "".join(char if char.isprintable() else _spelt(char) for char in str(value))
    return Text(text, style=style)


def _spelt(char: str) -> str:
    return char if char == "\n" else ascii(char)[1:-1]
