"""What a handler knows while it runs: the task, its own step and what ran before it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from tasker.telemetry.logs import get_logger

#: What step creation adds to the configuration of a batch worker's instance.
_BATCH_INPUTS: Final = frozenset({"cursor", "batch_metadata", "is_no_op", "__template_step_name"})

#: Guards the moment between looking at a signal and waiting for it; held for nanoseconds.
_signals = threading.Lock()


class CancelSignal:
    """Tells a running handler that nobody waits for its result any more.

    An async handler is cancelled the usual way (`asyncio.CancelledError`); a thread cannot be interrupted, so
    a long sync handler should look at `context.cancelled` between two pieces of work and return.
    """

    __slots__ = ("_event", "_reason")

    def __init__(self) -> None:
        # Every step has a signal and hardly one is ever waited for: the event is made when it is.
        self._event: threading.Event | None = None
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the handler was cancelled, or None while it was not."""
        return self._reason

    def set(self, reason: str = "cancelled") -> None:
        """Cancel; the first reason stays."""
        with _signals:
            if self._reason is None:
                self._reason = reason
            if self._event is not None:
                self._event.set()

    def is_set(self) -> bool:
        """Return whether the handler was cancelled."""
        return self._reason is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Block the calling thread until cancelled or `timeout` seconds passed; return `is_set()`.

        A sync handler that pauses should pause here instead of in `time.sleep`.
        """
        with _signals:
            if self._reason is not None:
                return True
            if self._event is None:
                self._event = threading.Event()
        return self._event.wait(timeout)

    def __bool__(self) -> bool:  # `if context.cancelled:` must mean what it says
        return self.is_set()


@dataclass(frozen=True, slots=True)
class TaskView:
    """The task of a `TaskSequenceStep`."""

    task_uuid: UUID
    namespace: str
    name: str
    version: str
    correlation_id: UUID
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowStepView:
    """The step row of a `TaskSequenceStep`; `attempts` counts this claim."""

    step_uuid: UUID
    name: str
    attempts: int
    max_attempts: int
    inputs: Mapping[str, Any] | None
    checkpoint: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StepDefinitionView:
    """The template's side of a `TaskSequenceStep`."""

    name: str
    callable: str
    initialization: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskSequenceStep:
    """Everything a claim handed over, grouped by where it came from."""

    task: TaskView
    workflow_step: WorkflowStepView
    dependency_results: Mapping[str, Any]
    step_definition: StepDefinitionView


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """One attempt at one step, as its handler sees it.

    Attributes:
        task_uuid: The task.
        step_uuid: The step; the same in every attempt.
        correlation_id: The task's correlation id, for logs and calls to other systems.
        namespace: Namespace of the task.
        step_name: Name of the step, unique in its task.
        handler_name: The template's `handler.callable`.
        attempt: Which attempt this is, from 1.
        max_attempts: How many attempts the step has in total.
        input_data: The task's context, not the step's own inputs.
        step_inputs: Inputs stored with the step, such as a batch worker's cursor.
        dependency_results: What each transitive ancestor's handler returned, by step name, without an
            envelope.
        dependencies: Names of the steps this one depends on directly, as its template declares them; their
            ancestors are in `dependency_results` too.
        checkpoint: What the step's last `checkpoint_yield` stored.
        deadline: When the attempt times out (timezone-aware); the execution sets it where it is None.
        initialization: The template's `handler.initialization`; None means it is what `step_inputs` holds,
            where step creation puts it.
        task_name: Name of the task's template.
        task_version: Version of the task's template.
        template_step_name: The template's name for a step that was created at run time under another name.
        batch_size: How many items a batch has, as the template says, for the steps of a batch: the `batch_config` of
            the batch_worker, else that of the batchable; None for other steps.
        cancelled: Set when the result is no longer wanted (timeout, lost lease, shutdown).
    """

    task_uuid: UUID
    step_uuid: UUID
    correlation_id: UUID
    namespace: str
    step_name: str
    handler_name: str
    attempt: int = 1
    max_attempts: int = 3
    input_data: Mapping[str, Any] = field(default_factory=dict)
    step_inputs: Mapping[str, Any] | None = None
    dependency_results: Mapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    checkpoint: Mapping[str, Any] | None = None
    deadline: datetime | None = None
    initialization: Mapping[str, Any] | None = None
    task_name: str = ""
    task_version: str = ""
    template_step_name: str | None = None
    batch_size: int | None = None
    cancelled: CancelSignal = field(default_factory=CancelSignal, compare=False)

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt at this step and in no other step.

        Delivery is at least once: a worker may die after the effect and before the result, and the step then
        runs again. Send this key with every effect (a charge, a mail, an insert) so that the other side can
        recognise the repetition. Format: `<task_uuid>:<step_uuid>`.
        """
        return f"{self.task_uuid}:{self.step_uuid}"

    @property
    def log_fields(self) -> dict[str, object]:
        """What says in a line of the log which step it is of."""
        return {
            "correlation_id": str(self.correlation_id),
            "task_uuid": str(self.task_uuid),
            "step_uuid": str(self.step_uuid),
            "step_name": self.step_name,
            "attempt": self.attempt,
        }

    @property
    def logger(self) -> FilteringBoundLogger:
        """A logger of the worker's own log whose lines say which step they are of, in threads of the author's, too."""
        return get_logger(self.handler_name).bind(**self.log_fields)

    # Attempts

    @property
    def retry_count(self) -> int:
        """Attempts made before this one: 0 in the first."""
        return self.attempt - 1

    @property
    def max_retries(self) -> int:
        """Total attempts of the step: another name for `max_attempts`."""
        return self.max_attempts

    def is_retry(self) -> bool:
        """Return whether an earlier attempt failed."""
        return self.retry_count > 0

    def is_last_retry(self) -> bool:
        """Return whether no attempt follows if this one fails."""
        return self.retry_count >= self.max_retries - 1

    def remaining_seconds(self) -> float | None:
        """Return the seconds left until the deadline, never below 0; None without a deadline."""
        if self.deadline is None:
            return None
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    # Inputs and configuration

    def get_input(self, key: str) -> Any:
        """Return one value of the task's context, or None."""
        return self.input_data.get(key)

    def get_input_or(self, key: str, default: Any = None) -> Any:
        """Return one value of the task's context; `default` replaces a missing value and null."""
        value = self.input_data.get(key)
        return default if value is None else value

    def get_task_field(self, key: str) -> Any:
        """Return one value of the task's context; another name for `get_input`."""
        return self.get_input(key)

    @property
    def step_config(self) -> Mapping[str, Any]:
        """The step's `handler.initialization`, empty where the template gives none."""
        if self.initialization is not None:
            return self.initialization
        inputs = self.step_inputs or {}
        if self.is_batch_instance:
            return {key: value for key, value in inputs.items() if key not in _BATCH_INPUTS}
        return inputs

    @property
    def is_batch_instance(self) -> bool:
        """Whether the step is an instance of a batch worker; `BatchWorkerContext` tells its share then."""
        inputs = self.step_inputs or {}
        return isinstance(inputs.get("cursor"), Mapping) and "is_no_op" in inputs

    def get_config(self, key: str) -> Any:
        """Return one value of the step's configuration, or None."""
        return self.step_config.get(key)

    # Dependencies

    def get_dependency_result(self, step_name: str) -> Any:
        """Return what a step's handler returned, or None if it is no ancestor or did not run.

        A handler that returned neither an object nor None was stored as `{"result": value}`, and that is what
        this returns: a key `result` of the handler's own is never unwrapped.
        """
        return self.dependency_results.get(step_name)

    def get_dependency_field(self, step_name: str, *path: str | int) -> Any:
        """Return a value inside a step's result by keys and indexes, or None where the path ends early."""
        value = self.get_dependency_result(step_name)
        for part in path:
            if isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and -len(value) <= part < len(value):
                value = value[part]
            else:
                return None
        return value

    def get_dependency_result_keys(self) -> list[str]:
        """Return the names of the steps whose results are here."""
        return list(self.dependency_results)

    def get_all_dependency_results(self, prefix: str) -> list[Any]:
        """Return the results of all steps whose name starts with `prefix`, ordered by name, nulls left out.

        For aggregators: `context.get_all_dependency_results("load_rows")` gathers `load_rows_001`,
        `load_rows_002`...
        """
        names = sorted(name for name in self.dependency_results if name.startswith(prefix))
        return [value for name in names if (value := self.dependency_results[name]) is not None]

    # Checkpoint

    @property
    def checkpoint_cursor(self) -> Any:
        """Where the last `checkpoint_yield` stopped: a number, a string or an object; None at the start."""
        return (self.checkpoint or {}).get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """How many items were done up to the checkpoint."""
        return int((self.checkpoint or {}).get("items_processed") or 0)

    @property
    def accumulated_results(self) -> Any:
        """What the handler gathered up to the checkpoint, or None."""
        return (self.checkpoint or {}).get("accumulated_results")

    def has_checkpoint(self) -> bool:
        """Return whether an earlier run of this step left a cursor."""
        return self.checkpoint_cursor is not None

    @property
    def task_sequence_step(self) -> TaskSequenceStep:
        """The same facts, grouped as task, step, dependency results and definition."""
        return TaskSequenceStep(
            task=TaskView(
                task_uuid=self.task_uuid,
                namespace=self.namespace,
                name=self.task_name,
                version=self.task_version,
                correlation_id=self.correlation_id,
                context=self.input_data,
            ),
            workflow_step=WorkflowStepView(
                step_uuid=self.step_uuid,
                name=self.step_name,
                attempts=self.attempt,
                max_attempts=self.max_attempts,
                inputs=self.step_inputs,
                checkpoint=self.checkpoint,
            ),
            dependency_results=self.dependency_results,
            step_definition=StepDefinitionView(
                name=self.template_step_name or self.step_name,
                callable=self.handler_name,
                initialization=self.step_config,
            ),
        )
