"""How queues, pauses and poison messages look to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from tasker.client import NamespacePause, PoisonMessage, QueueStatus, RequeuedPoison
from tasker.ctl import tables
from tasker.ctl.output import brief, shown


def queue_table(queues: Iterable[QueueStatus]) -> Table:
    """Return one line a queue."""
    counts = ("READY", "DELAYED", "OLDEST", "WORKERS")
    made = tables.table("QUEUE", "NAMESPACE", "BAND", *counts, "PAUSED", right=counts)
    for queue in queues:
        made.add_row(
            shown(queue.name),
            shown(queue.namespace or ""),
            shown(queue.priority_band or ""),
            f"{queue.visible:,}",
            f"{queue.delayed:,}",
            tables.duration(queue.oldest_age_seconds) if queue.oldest_age_seconds is not None else "",
            str(queue.workers) if queue.namespace else "",
            brief(_pause(queue.pause), tables.CELL, "yellow") if queue.pause is not None else "",
        )
    return made


def poison_table(messages: Iterable[PoisonMessage]) -> Table:
    """Return one line a message."""
    made = tables.table("ID", "AT", "QUEUE", "TASK", "STEP IS", "ERROR", right=("ID",))
    for message in messages:
        made.add_row(
            str(message.poison_id),
            tables.local(message.recorded_at),
            shown(message.queue),
            str(message.task_uuid or ""),
            tables.state(message.step_state or ""),
            brief(message.error, tables.REASON, "red"),
        )
    return made


def pause_line(pause: NamespacePause) -> Text:
    """Return since when and why a namespace is paused."""
    return shown(f"Namespace {pause.namespace} is paused since {_pause(pause)}")


def resume_line(namespace: str, *, changed: bool) -> Text:
    """Return what resuming a namespace came to."""
    return shown(f"Namespace {namespace} goes on." if changed else f"Namespace {namespace} was not paused.")


def requeued_line(done: RequeuedPoison) -> Text:
    """Return what runs again."""
    return shown(f"Step {done.step_uuid} runs again: task {done.task.task_uuid} is {done.task.state}.")


def _pause(pause: NamespacePause) -> str:
    return f"{tables.local(pause.paused_at)} by {pause.requested_by}: {pause.reason}"
