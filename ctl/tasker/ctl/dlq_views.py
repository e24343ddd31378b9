"""How entries of the dead letter queue look to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasker.client import DlqEntry, DlqStats, QueuedDlqEntry, TaskStaleness
from tasker.ctl import tables
from tasker.ctl.output import brief, shown


def entry_table(entries: Iterable[DlqEntry]) -> Table:
    """Return one line an entry."""
    made = tables.table("TASK", "TEMPLATE", "REASON", "SINCE", "STATUS", "NOTES")
    for entry in entries:
        made.add_row(
            str(entry.task_uuid),
            _template(entry.task_snapshot),
            entry.dlq_reason,
            tables.local(entry.dlq_timestamp),
            tables.state(entry.resolution_status),
            brief(entry.resolution_notes or "", tables.CELL),
        )
    return made


def queue_table(entries: Iterable[QueuedDlqEntry]) -> Table:
    """Return one line for each entry that waits for a person."""
    made = tables.table("TASK", "TEMPLATE", "STATE", "REASON", "WAITS", "SCORE", right=("WAITS", "SCORE"))
    for entry in entries:
        made.add_row(
            str(entry.task_uuid),
            shown(f"{entry.namespace}/{entry.name}" if entry.name else ""),
            tables.state(entry.current_state or ""),
            entry.dlq_reason,
            tables.duration(60 * entry.minutes_in_dlq),
            f"{entry.priority_score:.0f}",
        )
    return made


def staleness_table(tasks: Iterable[TaskStaleness]) -> Table:
    """Return one line a task."""
    made = tables.table("TASK", "TEMPLATE", "STATE", "FOR", "LIMIT", "HEALTH", right=("FOR", "LIMIT"))
    for task in tasks:
        made.add_row(
            str(task.task_uuid),
            shown(f"{task.namespace}/{task.name}" if task.name else ""),
            tables.state(task.state),
            tables.duration(60 * task.time_in_state_minutes),
            tables.duration(60 * task.threshold_minutes),
            tables.state(task.health),
        )
    return made


def stats_table(rows: Iterable[DlqStats]) -> Table:
    """Return one line a reason."""
    counts = ("ALL", "PENDING", "RESOLVED", "FAILED", "CANCELLED", "TAKES")
    made = tables.table("REASON", *counts, right=counts)
    for row in rows:
        numbers = (
            row.total_entries,
            row.pending,
            row.manually_resolved,
            row.permanent_failures,
            row.cancelled,
        )
        took = row.avg_resolution_time_minutes
        made.add_row(
            row.dlq_reason,
            *(f"{number:,}" for number in numbers),
            "" if took is None else tables.duration(60 * took),
        )
    return made


def entry_details(entry: DlqEntry) -> RenderableType:
    """Return all about one entry."""
    facts: list[tuple[str, object]] = [
        ("entry", entry.dlq_entry_uuid),
        ("task", entry.task_uuid),
        ("template", _template(entry.task_snapshot)),
        ("reason", entry.dlq_reason),
        ("state then", tables.state(entry.original_state)),
        ("since", tables.local(entry.dlq_timestamp)),
        ("status", tables.state(entry.resolution_status)),
        ("closed", tables.local(entry.resolution_timestamp)),
        ("by", entry.resolved_by or ""),
        ("notes", entry.resolution_notes or ""),
        ("metadata", tables.json_text(entry.metadata) if entry.metadata else ""),
    ]
    return Group(tables.facts(facts), "", _steps(entry.task_snapshot))


def entry_line(entry: DlqEntry) -> Text:
    """Return where an entry is, in a line."""
    return shown(f"The entry of task {entry.task_uuid} ({entry.dlq_reason}) is {entry.resolution_status}.")


def _steps(snapshot: Mapping[str, Any]) -> Table:
    """Return the steps as they were; other versions may have kept other facts of them."""
    made = tables.table("STEP", "STATE THEN", "ATTEMPTS", "ERROR", right=("ATTEMPTS",))
    for step in snapshot.get("steps") or ():
        made.add_row(
            shown(step.get("name") or ""),
            tables.state(step.get("state") or ""),
            f"{step.get('attempts', 0):g}/{step.get('max_attempts', 0):g}",
            brief(_error(step), tables.REASON, "red"),
        )
    return made


def _error(step: Mapping[str, Any]) -> str:
    return ": ".join(str(step[key]) for key in ("error_type", "error_message") if step.get(key))


def _template(snapshot: Mapping[str, Any]) -> Text:
    return shown(f"{snapshot.get('namespace', '')}/{snapshot.get('task_name', '')}")
