"""What everything that people are shown is made of: tables, names with values, states in their colours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tasker.client import StepState, TaskState
from tasker.ctl.output import brief, shown

#: How many characters are shown of a value in a table, of why something failed, and of a value beside its name. --json
#: prints all of it.
CELL: Final = 100
REASON: Final = 250
FACT: Final = 1000

_COLOURS: Final[Mapping[str, str]] = {
    StepState.IN_PROGRESS: "cyan",
    TaskState.STEPS_IN_PROCESS: "cyan",
    TaskState.WAITING_FOR_RETRY: "yellow",
    TaskState.BLOCKED_BY_FAILURES: "red",
    TaskState.ERROR: "red",
    TaskState.CANCELLED: "magenta",
    TaskState.COMPLETE: "green",
    TaskState.RESOLVED_MANUALLY: "green",
    "healthy": "green",
    "ready": "green",
    "pending": "yellow",
    "warning": "yellow",
    "stale": "red",
    "degraded": "yellow",
    "unknown": "yellow",
    "unhealthy": "red",
}


def state(value: str) -> Text:
    """Return a state in its colour."""
    return shown(value, _COLOURS.get(value, ""))


def local(instant: datetime | None) -> str:
    """Return an instant in local time, to the second."""
    return instant.astimezone().isoformat(" ", "seconds") if instant is not None else ""


def duration(seconds: float) -> str:
    """Return how long so many seconds are, in the largest unit of which there is one."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table without lines."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def json_text(value: Any) -> str:
    """Return a JSON value as text for people."""
    return json.dumps(value, ensure_ascii=False)


def facts(given: Iterable[tuple[str, object]]) -> RenderableType:
    """Return names and values, one a line; what is empty is left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in given:
        if str(value):
            made.add_row(name, value if isinstance(value, Text) else brief(value, FACT))
    return Padding(made, 0, expand=False)
