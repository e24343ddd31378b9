"""The two state machines: which event leads from which state to which.

The tables are the rule; SQL enforces the same edges and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar, overload

from tasker.domain.errors import InvalidStepTransitionError, InvalidTaskTransitionError


class TaskState(StrEnum):
    """Where a task stands. Its first state is `pending`."""

    PENDING = "pending"
    INITIALIZING = "initializing"
    ENQUEUING_STEPS = "enqueuing_steps"
    STEPS_IN_PROCESS = "steps_in_process"
    EVALUATING_RESULTS = "evaluating_results"
    WAITING_FOR_DEPENDENCIES = "waiting_for_dependencies"
    WAITING_FOR_RETRY = "waiting_for_retry"
    BLOCKED_BY_FAILURES = "blocked_by_failures"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"

    @property
    def is_terminal(self) -> bool:
        """Whether the task is over; only an operator leads out of `error`."""
        return self in _TASK_TERMINAL

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens by itself; waiting clients return here."""
        return self is TaskState.BLOCKED_BY_FAILURES or self in _TASK_TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether the engine or a worker is at work on the task."""
        return self is TaskState.STEPS_IN_PROCESS or self in _TASK_TRANSIENT

    @property
    def is_transient(self) -> bool:
        """Whether the state is only passed through inside a transaction, never stored."""
        return self in _TASK_TRANSIENT


class StepState(StrEnum):
    """Where a step stands. Its first state is `pending`."""

    PENDING = "pending"
    ENQUEUED = "enqueued"
    IN_PROGRESS = "in_progress"
    ENQUEUED_FOR_ORCHESTRATION = "enqueued_for_orchestration"
    ENQUEUED_AS_ERROR_FOR_ORCHESTRATION = "enqueued_as_error_for_orchestration"
    WAITING_FOR_RETRY = "waiting_for_retry"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing leads out. `error` is not terminal: an operator may still act on it."""
        return self in _STEP_TERMINAL

    @property
    def satisfies_children(self) -> bool:
        """Whether steps that depend on this one may run."""
        return self is StepState.COMPLETE or self is StepState.RESOLVED_MANUALLY

    @property
    def is_notification(self) -> bool:
        """Whether a worker has handed in a result that orchestration has yet to process."""
        return self in _STEP_NOTIFICATION

    @property
    def may_become_ready(self) -> bool:
        """Whether the step is enqueued once its parents and its backoff allow."""
        return self is StepState.PENDING or self is StepState.WAITING_FOR_RETRY


class TaskEvent(StrEnum):
    """What can happen to a task. `timeout` and `processor_crashed` have a name and move nothing."""

    START = "start"
    READY_STEPS_FOUND = "ready_steps_found"
    NO_STEPS_FOUND = "no_steps_found"
    NO_DEPENDENCIES_READY = "no_dependencies_ready"
    STEPS_ENQUEUED = "steps_enqueued"
    ENQUEUE_FAILED = "enqueue_failed"
    STEP_COMPLETED = "step_completed"
    ALL_STEPS_COMPLETED = "all_steps_completed"
    STEP_FAILED = "step_failed"
    ALL_STEPS_SUCCESSFUL = "all_steps_successful"
    PERMANENT_FAILURE = "permanent_failure"
    DEPENDENCIES_READY = "dependencies_ready"
    RETRY_READY = "retry_ready"
    GIVE_UP = "give_up"
    MANUAL_RESOLUTION = "manual_resolution"
    RESET = "reset"
    CANCEL = "cancel"
    RESOLVE_MANUALLY = "resolve_manually"
    COMPLETE = "complete"
    FAIL = "fail"
    TIMEOUT = "timeout"
    PROCESSOR_CRASHED = "processor_crashed"


class StepEvent(StrEnum):
    """What can happen to a step."""

    ENQUEUE = "enqueue"
    START = "start"
    ENQUEUE_FOR_ORCHESTRATION = "enqueue_for_orchestration"
    ENQUEUE_AS_ERROR_FOR_ORCHESTRATION = "enqueue_as_error_for_orchestration"
    COMPLETE = "complete"
    FAIL = "fail"
    WAIT_FOR_RETRY = "wait_for_retry"
    RETRY = "retry"
    RESET_FOR_RETRY = "reset_for_retry"
    CANCEL = "cancel"
    RESOLVE_MANUALLY = "resolve_manually"
    COMPLETE_MANUALLY = "complete_manually"


_TASK_TERMINAL: Final = frozenset(
    {TaskState.COMPLETE, TaskState.ERROR, TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY}
)
_TASK_TRANSIENT: Final = frozenset(
    {TaskState.INITIALIZING, TaskState.ENQUEUING_STEPS, TaskState.EVALUATING_RESULTS}
)
_STEP_TERMINAL: Final = frozenset({StepState.COMPLETE, StepState.CANCELLED, StepState.RESOLVED_MANUALLY})
_STEP_NOTIFICATION: Final = frozenset(
    {StepState.ENQUEUED_FOR_ORCHESTRATION, StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION}
)

_OPEN_TASKS: Final = tuple(state for state in TaskState if not state.is_terminal)
_OPEN_STEPS: Final = tuple(state for state in StepState if not state.is_terminal)

#: Every legal task transition.
TASK_TRANSITIONS: Final[Mapping[tuple[TaskState, TaskEvent], TaskState]] = MappingProxyType(
    {
        (TaskState.PENDING, TaskEvent.START): TaskState.INITIALIZING,
        (TaskState.INITIALIZING, TaskEvent.READY_STEPS_FOUND): TaskState.ENQUEUING_STEPS,
        (TaskState.INITIALIZING, TaskEvent.NO_STEPS_FOUND): TaskState.COMPLETE,
        (TaskState.INITIALIZING, TaskEvent.NO_DEPENDENCIES_READY): TaskState.WAITING_FOR_DEPENDENCIES,
        (TaskState.ENQUEUING_STEPS, TaskEvent.STEPS_ENQUEUED): TaskState.STEPS_IN_PROCESS,
        (TaskState.ENQUEUING_STEPS, TaskEvent.ENQUEUE_FAILED): TaskState.ERROR,
        (TaskState.STEPS_IN_PROCESS, TaskEvent.STEP_COMPLETED): TaskState.EVALUATING_RESULTS,
        (TaskState.STEPS_IN_PROCESS, TaskEvent.ALL_STEPS_COMPLETED): TaskState.EVALUATING_RESULTS,
        (TaskState.STEPS_IN_PROCESS, TaskEvent.STEP_FAILED): TaskState.WAITING_FOR_RETRY,
        (TaskState.EVALUATING_RESULTS, TaskEvent.ALL_STEPS_SUCCESSFUL): TaskState.COMPLETE,
        (TaskState.EVALUATING_RESULTS, TaskEvent.READY_STEPS_FOUND): TaskState.ENQUEUING_STEPS,
        (TaskState.EVALUATING_RESULTS, TaskEvent.NO_DEPENDENCIES_READY): TaskState.WAITING_FOR_DEPENDENCIES,
        (TaskState.EVALUATING_RESULTS, TaskEvent.PERMANENT_FAILURE): TaskState.BLOCKED_BY_FAILURES,
        (TaskState.EVALUATING_RESULTS, TaskEvent.STEP_FAILED): TaskState.WAITING_FOR_RETRY,
        (TaskState.EVALUATING_RESULTS, TaskEvent.STEPS_ENQUEUED): TaskState.STEPS_IN_PROCESS,
        (TaskState.WAITING_FOR_DEPENDENCIES, TaskEvent.DEPENDENCIES_READY): TaskState.EVALUATING_RESULTS,
        (TaskState.WAITING_FOR_RETRY, TaskEvent.RETRY_READY): TaskState.ENQUEUING_STEPS,
        (TaskState.BLOCKED_BY_FAILURES, TaskEvent.GIVE_UP): TaskState.ERROR,
        (TaskState.BLOCKED_BY_FAILURES, TaskEvent.MANUAL_RESOLUTION): TaskState.RESOLVED_MANUALLY,
        (TaskState.BLOCKED_BY_FAILURES, TaskEvent.RESET): TaskState.PENDING,
        (TaskState.ERROR, TaskEvent.RESET): TaskState.PENDING,
        # Legacy: accepted from older histories, never emitted.
        (TaskState.STEPS_IN_PROCESS, TaskEvent.COMPLETE): TaskState.COMPLETE,
        (TaskState.STEPS_IN_PROCESS, TaskEvent.FAIL): TaskState.ERROR,
    }
    | {(state, TaskEvent.CANCEL): TaskState.CANCELLED for state in _OPEN_TASKS}
    | {(state, TaskEvent.RESOLVE_MANUALLY): TaskState.RESOLVED_MANUALLY for state in _OPEN_TASKS}
)

_BEFORE_A_RESULT: Final = (StepState.PENDING, StepState.ENQUEUED, StepState.IN_PROGRESS)

#: Every legal step transition.
STEP_TRANSITIONS: Final[Mapping[tuple[StepState, StepEvent], StepState]] = MappingProxyType(
    {
        (StepState.PENDING, StepEvent.ENQUEUE): StepState.ENQUEUED,
        (StepState.ENQUEUED, StepEvent.START): StepState.IN_PROGRESS,
        (StepState.IN_PROGRESS, StepEvent.ENQUEUE_FOR_ORCHESTRATION): StepState.ENQUEUED_FOR_ORCHESTRATION,
        (
            StepState.IN_PROGRESS,
            StepEvent.ENQUEUE_AS_ERROR_FOR_ORCHESTRATION,
        ): StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION,
        (StepState.ENQUEUED_FOR_ORCHESTRATION, StepEvent.COMPLETE): StepState.COMPLETE,
        (StepState.ENQUEUED_FOR_ORCHESTRATION, StepEvent.FAIL): StepState.ERROR,
        (
            StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION,
            StepEvent.WAIT_FOR_RETRY,
        ): StepState.WAITING_FOR_RETRY,
        (StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION, StepEvent.FAIL): StepState.ERROR,
        (StepState.ENQUEUED_AS_ERROR_FOR_ORCHESTRATION, StepEvent.COMPLETE): StepState.COMPLETE,
        (StepState.WAITING_FOR_RETRY, StepEvent.RETRY): StepState.PENDING,
        (StepState.ERROR, StepEvent.RETRY): StepState.PENDING,
        (StepState.ERROR, StepEvent.RESET_FOR_RETRY): StepState.PENDING,
        # Legacy: accepted from older histories, never emitted.
        (StepState.PENDING, StepEvent.START): StepState.IN_PROGRESS,
        (StepState.IN_PROGRESS, StepEvent.COMPLETE): StepState.COMPLETE,
    }
    | {(state, StepEvent.FAIL): StepState.ERROR for state in _BEFORE_A_RESULT}
    | {(state, StepEvent.WAIT_FOR_RETRY): StepState.WAITING_FOR_RETRY for state in _BEFORE_A_RESULT}
    | {(state, StepEvent.CANCEL): StepState.CANCELLED for state in _OPEN_STEPS}
    | {(state, StepEvent.RESOLVE_MANUALLY): StepState.RESOLVED_MANUALLY for state in _OPEN_STEPS}
    | {(state, StepEvent.COMPLETE_MANUALLY): StepState.COMPLETE for state in _OPEN_STEPS}
)

#: What the staleness detector writes besides the events.
STALENESS_EDGES: Final[frozenset[tuple[TaskState, TaskState]]] = frozenset(
    (state, TaskState.ERROR)
    for state in (TaskState.WAITING_FOR_DEPENDENCIES, TaskState.WAITING_FOR_RETRY, TaskState.STEPS_IN_PROCESS)
)


@overload
def next_state(state: TaskState, event: TaskEvent) -> TaskState: ...
@overload
def next_state(state: StepState, event: StepEvent) -> StepState: ...
def next_state(state: TaskState | StepState, event: TaskEvent | StepEvent) -> TaskState | StepState:
    """Return the state an event leads to.

    Raises:
        InvalidTransitionError: The machine has no such edge; the subclass tells which machine.
    """
    if isinstance(state, TaskState) and isinstance(event, TaskEvent):
        if (to_task := TASK_TRANSITIONS.get((state, event))) is not None:
            return to_task
        raise InvalidTaskTransitionError("task", state, event, possible_events(state))
    if isinstance(state, StepState) and isinstance(event, StepEvent):
        if (to_step := STEP_TRANSITIONS.get((state, event))) is not None:
            return to_step
        raise InvalidStepTransitionError("step", state, event, possible_events(state))
    raise TypeError(f"{state!r} and {event!r} belong to different machines")


@overload
def possible_events(state: TaskState) -> tuple[TaskEvent, ...]: ...
@overload
def possible_events(state: StepState) -> tuple[StepEvent, ...]: ...
def possible_events(state: TaskState | StepState) -> tuple[TaskEvent, ...] | tuple[StepEvent, ...]:
    """Return the events a state accepts, in the order the machine declares them."""
    if isinstance(state, TaskState):
        return tuple(event for event in TaskEvent if (state, event) in TASK_TRANSITIONS)
    return tuple(event for event in StepEvent if (state, event) in STEP_TRANSITIONS)


_State = TypeVar("_State", TaskState, StepState)
_Event = TypeVar("_Event", TaskEvent, StepEvent)

#: What the evaluator does on its own once it has locked the task; everything else begins a transaction.
_EVALUATOR_EVENTS: Final = frozenset(
    {
        TaskEvent.START,
        TaskEvent.READY_STEPS_FOUND,
        TaskEvent.NO_STEPS_FOUND,
        TaskEvent.NO_DEPENDENCIES_READY,
        TaskEvent.STEPS_ENQUEUED,
        TaskEvent.ENQUEUE_FAILED,
        TaskEvent.ALL_STEPS_COMPLETED,
        TaskEvent.ALL_STEPS_SUCCESSFUL,
        TaskEvent.STEP_FAILED,
        TaskEvent.PERMANENT_FAILURE,
    }
)


def _goes_on_as_task(state: TaskState, event: TaskEvent, entered_by: TaskEvent) -> bool:
    """Tell whether a task may pass through `state` and leave it by `event` within one transaction."""
    if event not in _EVALUATOR_EVENTS:
        return False
    if state is TaskState.STEPS_IN_PROCESS:
        # An empty enqueue is re-evaluated at once; where steps are still in flight it stays.
        return entered_by is TaskEvent.STEPS_ENQUEUED and event is TaskEvent.ALL_STEPS_COMPLETED
    return state.is_transient or state is TaskState.PENDING


def _goes_on_as_step(state: StepState, event: StepEvent, entered_by: StepEvent) -> bool:
    """Tell whether a step may pass through `state`: a retry or reset enqueues it at once."""
    return state is StepState.PENDING and event is StepEvent.ENQUEUE


def _net_edges(
    transitions: Mapping[tuple[_State, _Event], _State],
    goes_on: Callable[[_State, _Event, _Event], bool],
) -> Iterable[tuple[_State, _State]]:
    """Yield (a, b) for every path from a to b whose states in between may be passed through."""
    for (start, first_event), first in transitions.items():
        seen = {(first, first_event)}
        todo = [(first, first_event)]
        while todo:
            state, entered_by = todo.pop()
            yield start, state
            for (source, event), target in transitions.items():
                if source is state and (target, event) not in seen and goes_on(state, event, entered_by):
                    seen.add((target, event))
                    todo.append((target, event))


#: Every legal (from, to) of a stored task transition. What is stored is the net edge:
#: the machine must have a path whose states in between are transient, `pending` after a
#: reset, or `steps_in_process` after an empty enqueue; after its first event only the evaluator acts. No
#: transaction begins or ends in a transient state; one that comes back to its start stores nothing. What
#: staleness writes is included.
TASK_NET_EDGES: Final[frozenset[tuple[TaskState, TaskState]]] = STALENESS_EDGES | frozenset(
    (start, end)
    for start, end in _net_edges(TASK_TRANSITIONS, _goes_on_as_task)
    if start is not end and not start.is_transient and not end.is_transient
)

#: Every legal (from, to) of a stored step transition; only `pending` is passed through, towards `enqueued`.
STEP_NET_EDGES: Final[frozenset[tuple[StepState, StepState]]] = frozenset(
    _net_edges(STEP_TRANSITIONS, _goes_on_as_step)
)
