"""The names of queues, and of the channels on which their readers are woken."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

RESULTS_QUEUE: Final = "orchestration_step_results"
JUDGEMENTS_QUEUE: Final = "orchestration_step_judgements"


class Band(StrEnum):
    """A band of task priorities; the value is what tells its queues from others.

    Namespaces may not end in one of these, so that no queue belongs to two of them.
    """

    HIGH = "_high"
    NORMAL = ""
    LOW = "_low"


def worker_queue(namespace: str, band: Band = Band.NORMAL) -> str:
    """Return the queue of the steps of a namespace's tasks whose priority is in a band."""
    return f"worker_{namespace}{band}_queue"


def channel(queue: str) -> str:
    """Return the channel on which a queue's readers are woken."""
    return f"tasker_{queue}"
