"""The two state machines against their tables, written out a second time."""

from __future__ import annotations

from itertools import product

import pytest

from tasker.domain.errors import (
    InvalidStepTransitionError,
    InvalidTaskTransitionError,
    InvalidTransitionError,
)
from tasker.domain.state_diagrams import mermaid_diagram, states_document
from tasker.domain.states import (
    STEP_NET_EDGES,
    STEP_TRANSITIONS,
    TASK_NET_EDGES,
    TASK_TRANSITIONS,
    StepEvent,
    StepState,
    TaskEvent,
    TaskState,
    next_state,
    possible_events,
)

OPEN_TASKS = [
    "pending",
    "initializing",
    "enqueuing_steps",
    "steps_in_process",
    "evaluating_results",
    "waiting_for_dependencies",
    "waiting_for_retry",
    "blocked_by_failures",
]

TASK_TABLE = """
    pending                   start                  initializing
    initializing              ready_steps_found      enqueuing_steps
    initializing              no_steps_found         complete
    initializing              no_dependencies_ready  waiting_for_dependencies
    enqueuing_steps           steps_enqueued         steps_in_process
    enqueuing_steps           enqueue_failed         error
    steps_in_process          step_completed         evaluating_results
    steps_in_process          all_steps_completed    evaluating_results
    steps_in_process          step_failed            waiting_for_retry
    steps_in_process          complete               complete
    steps_in_process          fail                   error
    evaluating_results        all_steps_successful   complete
    evaluating_results        ready_steps_found      enqueuing_steps
    evaluating_results        no_dependencies_ready  waiting_for_dependencies
    evaluating_results        permanent_failure      blocked_by_failures
    evaluating_results        step_failed            waiting_for_retry
    evaluating_results        steps_enqueued         steps_in_process
    waiting_for_dependencies  dependencies_ready     evaluating_results
    waiting_for_retry         retry_ready            enqueuing_steps
    blocked_by_failures       give_up                error
    blocked_by_failures       manual_resolution      resolved_manually
    blocked_by_failures       reset                  pending
    error                     reset                  pending
"""

OPEN_STEPS = [
    "pending",
    "enqueued",
    "in_progress",
    "enqueued_for_orchestration",
    "enqueued_as_error_for_orchestration",
    "waiting_for_retry",
    "error",
]

STEP_TABLE = """
    pending      enqueue                             enqueued
    pending      start                               in_progress
    pending      fail                                error
    pending      wait_for_retry                      waiting_for_retry
    enqueued     start                               in_progress
    enqueued     fail                                error
    enqueued     wait_for_retry                      waiting_for_retry
    in_progress  enqueue_for_orchestration           enqueued_for_orchestration
    in_progress  enqueue_as_error_for_orchestration  enqueued_as_error_for_orchestration
    in_progress  complete                            complete
    in_progress  fail                                error
    in_progress  wait_for_retry                      waiting_for_retry
    enqueued_for_orchestration           complete        complete
    enqueued_for_orchestration           fail            error
    enqueued_as_error_for_orchestration  complete        complete
    enqueued_as_error_for_orchestration  wait_for_retry  waiting_for_retry
    enqueued_as_error_for_orchestration  fail            error
    waiting_for_retry  retry            pending
    error              retry            pending
    error              reset_for_retry  pending
"""


def rows(table: str) -> dict[tuple[str, str], str]:
    lines = (line.split() for line in table.strip().splitlines())
    return {(source, event): target for source, event, target in lines}


TASK_EXPECTED = (
    rows(TASK_TABLE)
    | {(state, "cancel"): "cancelled" for state in OPEN_TASKS}
    | {(state, "resolve_manually"): "resolved_manually" for state in OPEN_TASKS}
)
STEP_EXPECTED = (
    rows(STEP_TABLE)
    | {(state, "cancel"): "cancelled" for state in OPEN_STEPS}
    | {(state, "resolve_manually"): "resolved_manually" for state in OPEN_STEPS}
    | {(state, "complete_manually"): "complete" for state in OPEN_STEPS}
)


def test_there_are_as_many_states_and_events_as_the_spec_counts() -> None:
    assert (len(TaskState), len(TaskEvent), len(StepState), len(StepEvent)) == (12, 22, 10, 12)


@pytest.mark.parametrize(("state", "event"), list(product(TaskState, TaskEvent)))
def test_every_pair_of_task_state_and_event(state: TaskState, event: TaskEvent) -> None:
    expected = TASK_EXPECTED.get((state, event))
    if expected is not None:
        assert next_state(state, event) is TaskState(expected)
        return
    with pytest.raises(InvalidTaskTransitionError) as caught:
        next_state(state, event)
    assert (caught.value.state, caught.value.event) == (state, event)


@pytest.mark.parametrize(("state", "event"), list(product(StepState, StepEvent)))
def test_every_pair_of_step_state_and_event(state: StepState, event: StepEvent) -> None:
    expected = STEP_EXPECTED.get((state, event))
    if expected is not None:
        assert next_state(state, event) is StepState(expected)
        return
    with pytest.raises(InvalidStepTransitionError) as caught:
        next_state(state, event)
    assert (caught.value.state, caught.value.event) == (state, event)


def test_a_refused_event_tells_what_is_possible_instead() -> None:
    with pytest.raises(InvalidTransitionError, match="possible: retry, reset_for_retry, cancel") as refused:
        next_state(StepState.ERROR, StepEvent.START)
    assert refused.value.metadata == {"entity": "step", "state": "error", "event": "start"}
    with pytest.raises(InvalidTransitionError, match="it is final"):
        next_state(TaskState.CANCELLED, TaskEvent.CANCEL)


def test_the_machines_do_not_mix_although_their_names_do() -> None:
    with pytest.raises(TypeError, match="different machines"):
        next_state(TaskState.PENDING, StepEvent.CANCEL)  # type: ignore[call-overload]


def test_what_the_states_mean() -> None:
    def where(name: str, states: type[TaskState] | type[StepState]) -> set[str]:
        return {state.value for state in states if getattr(state, name)}

    assert where("is_terminal", TaskState) == {"complete", "error", "cancelled", "resolved_manually"}
    assert where("is_settled", TaskState) == where("is_terminal", TaskState) | {"blocked_by_failures"}
    assert where("is_transient", TaskState) == {"initializing", "enqueuing_steps", "evaluating_results"}
    assert where("is_active", TaskState) == where("is_transient", TaskState) | {"steps_in_process"}

    assert where("is_terminal", StepState) == {"complete", "cancelled", "resolved_manually"}
    assert where("satisfies_children", StepState) == {"complete", "resolved_manually"}
    assert where("may_become_ready", StepState) == {"pending", "waiting_for_retry"}
    assert where("is_notification", StepState) == {
        "enqueued_for_orchestration",
        "enqueued_as_error_for_orchestration",
    }


STORED = [state for state in TaskState if not state.is_transient]


@pytest.mark.parametrize("start", STORED)
def test_a_stored_task_edge_is_one_the_machine_has_a_path_for(start: TaskState) -> None:
    reached = {target for source, target in TASK_NET_EDGES if source is start}
    assert start not in reached
    reached.add(start)
    if start is TaskState.ERROR:
        # Only a reset leads out, and what follows it is the evaluator's doing: nobody cancels in between.
        assert reached == {*STORED} - {TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY}
    elif start is TaskState.BLOCKED_BY_FAILURES:
        assert reached == {*STORED}
    else:
        assert reached == ({start} if start.is_terminal else {*STORED} - {TaskState.PENDING} | {start})


def test_no_stored_edge_touches_a_transient_state() -> None:
    assert not any(state.is_transient for edge in TASK_NET_EDGES for state in edge)


def test_the_usual_transactions_are_legal_net_edges() -> None:
    for source, target in [
        ("pending", "steps_in_process"),  # create
        ("pending", "complete"),  # create without steps
        ("steps_in_process", "complete"),  # the last result
        ("steps_in_process", "blocked_by_failures"),
        ("waiting_for_retry", "steps_in_process"),  # a backoff that is over
        ("waiting_for_retry", "complete"),  # an operator resolves the step in backoff, nothing is left
        ("error", "steps_in_process"),  # a reset resumes at once
        ("blocked_by_failures", "steps_in_process"),
        ("waiting_for_dependencies", "error"),  # staleness
    ]:
        assert (TaskState(source), TaskState(target)) in TASK_NET_EDGES


def test_a_stored_step_edge_passes_through_pending_only() -> None:
    direct = {(source, target) for (source, _), target in STEP_TRANSITIONS.items()}
    assert direct | {
        (StepState.WAITING_FOR_RETRY, StepState.ENQUEUED),
        (StepState.ERROR, StepState.ENQUEUED),
    } == set(STEP_NET_EDGES)


def test_possible_events_are_those_of_the_table() -> None:
    for state in TaskState:
        assert {event for (source, event) in TASK_TRANSITIONS if source is state} == set(
            possible_events(state)
        )


def test_the_document_draws_both_machines() -> None:
    text = states_document()
    assert text.count("```mermaid\nstateDiagram-v2\n    [*] --> pending\n") == 2
    assert "    steps_in_process --> evaluating_results: step_completed, all_steps_completed\n" in text
    assert "    resolved_manually --> [*]\n" in text
    for (source, event), target in (TASK_TRANSITIONS | STEP_TRANSITIONS).items():  # type: ignore[operator]
        assert f"| {source} | {event} | {target} |\n" in text
    assert "error (also by staleness)" in text
    assert states_document() == text


def test_a_diagram_leaves_out_what_every_open_state_allows() -> None:
    drawn = mermaid_diagram(STEP_TRANSITIONS, [])
    assert "cancelled" not in drawn
    assert "complete_manually" not in drawn
