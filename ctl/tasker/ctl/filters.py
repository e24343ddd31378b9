"""Which tasks a command is about, said by what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self, cast
from uuid import UUID

import typer

from tasker.client import TaskQuery, TaskState
from tasker.ctl.arguments import instant

#: Where a task is that failures stopped.
FAILED_STATES: Final = (TaskState.BLOCKED_BY_FAILURES, TaskState.ERROR)

#: The first and the second end of a span.
From = Annotated[datetime | None, typer.Option(parser=instant, metavar="TIME", help="At TIME or later.")]
Until = Annotated[datetime | None, typer.Option(parser=instant, metavar="TIME", help="Before TIME.")]


@dataclass(frozen=True, slots=True)
class TaskFilters:
    """The options of a command that say which tasks it is about; all of them must hold.

    Attributes:
        query: What was given of them; empty if nothing was.
    """

    query: TaskQuery

    @classmethod
    def from_options(
        cls,
        namespace: Annotated[
            str | None, typer.Option(metavar="TEXT", help="Namespace of the template.")
        ] = None,
        name: Annotated[str | None, typer.Option(metavar="TEXT", help="Name of the template.")] = None,
        state: Annotated[
            list[TaskState] | None,
            typer.Option(help=f"Any of these states: {', '.join(TaskState)}.", metavar="STATE"),
        ] = None,
        failed: Annotated[
            bool, typer.Option("--failed", help=f"Short for the states {' and '.join(FAILED_STATES)}.")
        ] = False,
        tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="All of these labels.")] = None,
        tag_any: Annotated[
            list[str] | None, typer.Option(metavar="TEXT", help="One of these labels.")
        ] = None,
        initiator: Annotated[str | None, typer.Option(metavar="TEXT", help="Who asked for the task.")] = None,
        source_system: Annotated[str | None, typer.Option(metavar="TEXT", help="Where it came from.")] = None,
        correlation_id: Annotated[UUID | None, typer.Option(help="What it is tied to.")] = None,
        parent_correlation_id: Annotated[UUID | None, typer.Option(help="What caused it.")] = None,
        created_after: From = None,
        created_before: Until = None,
        updated_after: From = None,
        updated_before: Until = None,
    ) -> Self:
        """Return what the options of a command say."""
        given: dict[str, Any] = {
            "namespace": namespace,
            "name": name,
            "states": [*(state or ()), *(FAILED_STATES if failed else ())],
            "tags": tag,
            "tags_any": tag_any,
            "initiator": initiator,
            "source_system": source_system,
            "correlation_id": correlation_id,
            "parent_correlation_id": parent_correlation_id,
            "created_after": created_after,
            "created_before": created_before,
            "updated_after": updated_after,
            "updated_before": updated_before,
        }
        return cls(cast("TaskQuery", {name: value for name, value in given.items() if value}))
