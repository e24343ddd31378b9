"""What the caller at hand may see of a task: asked here, and nowhere else.

The context of a task, and what tells of the machine that a step failed on, are for those who may read contexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasker.rpc.permissions import Permission, caller


def context_is_visible() -> bool:
    """Return whether replies may hold the context of a task."""
    return caller().reads_context


def visible_backtrace(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines of a traceback, which name files of a worker, or none."""
    return lines if _reads_traces() else ()


def visible_envelope(envelope: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the stored result of a step, without traceback and host if those are not for the caller."""
    if envelope is None or _reads_traces():
        return envelope
    seen = dict(envelope)
    if isinstance(error := seen.get("error"), Mapping):
        seen["error"] = {**error, "backtrace": []}
    if isinstance(metadata := seen.get("metadata"), Mapping):
        seen["metadata"] = {**metadata, "worker_hostname": None}
        if isinstance(notes := metadata.get("context"), Mapping):
            seen["metadata"]["context"] = {name: note for name, note in notes.items() if name != "traceback"}
    return seen


def _reads_traces() -> bool:
    return caller().may(Permission.TASKS_CONTEXT_READ)
