"""The working directory, which all steps of a worker share."""

from __future__ import annotations

import os

from tasker.persistence.operations.claim import ClaimedStep
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class WorkingDirectory:
    """Notices that steps leave another working directory behind, and goes back to its own once nothing runs in it."""

    def __init__(self) -> None:
        self._own = os.getcwd()
        self._left: str | None = None

    def look(self, step: ClaimedStep, *, others_run: bool) -> None:
        """Look when a step has ended.

        Args:
            step: The one that has: it, or one beside it, changed what has changed since the last look.
            others_run: Whether handlers still run; one may be about to go back itself, or need where it is.
        """
        found = _current()
        if found == self._own:
            self._left = None
            return
        if found != self._left:
            self._left = found
            log.warning(
                "working_directory_left_behind",
                correlation_id=str(step.correlation_id),
                task_uuid=str(step.task_uuid),
                step_uuid=str(step.step_uuid),
                step_name=step.name,
                attempt=step.attempt,
                directory=found,
                remedy="use absolute paths, or a process of its own: all steps of a worker share it",
            )
        if not others_run:
            self._go_back()

    def _go_back(self) -> None:
        try:
            os.chdir(self._own)
        except OSError as error:
            log.warning("working_directory_gone", directory=self._own, problem=str(error))
        else:
            self._left = None


def _current() -> str:
    try:
        return os.getcwd()
    except OSError as error:  # it has been removed
        return str(error)
