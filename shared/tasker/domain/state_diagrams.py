"""The state machines as Markdown with mermaid diagrams: the text of docs/states.md, made from the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tasker.domain.states import (
    STALENESS_EDGES,
    STEP_NET_EDGES,
    STEP_TRANSITIONS,
    TASK_NET_EDGES,
    TASK_TRANSITIONS,
    StepEvent,
    StepState,
    TaskEvent,
    TaskState,
)

#: Events an operator may send to every open task or step; drawing them would hide everything else.
_FROM_ANY_OPEN_STATE: Final = frozenset(
    {
        TaskEvent.CANCEL,
        TaskEvent.RESOLVE_MANUALLY,
        StepEvent.CANCEL,
        StepEvent.RESOLVE_MANUALLY,
        StepEvent.COMPLETE_MANUALLY,
    }
)

_HEADER: Final = """\
# States

<!-- Made by tasker.domain.state_diagrams from the tables in tasker.domain.states: change those instead. -->

A task and each of its steps are state machines. Every change is a compare-and-swap that appends a transition.
"""


def states_document() -> str:
    """Return the whole of docs/states.md."""
    task_net = dict.fromkeys(TASK_NET_EDGES, "") | dict.fromkeys(STALENESS_EDGES, "also by staleness")
    step_net = dict.fromkeys(STEP_NET_EDGES, "")
    parts = [
        _HEADER,
        "## Task\n",
        mermaid_diagram(TASK_TRANSITIONS, (state for state in TaskState if state.is_terminal)),
        "Not drawn: from every open state `cancel` leads to `cancelled` and `resolve_manually` to\n"
        "`resolved_manually`. `initializing`, `enqueuing_steps` and `evaluating_results` are passed through\n"
        "inside one transaction and never stored; what is stored is the net edge.\n",
        _table(TASK_TRANSITIONS),
        "### Stored task edges\n",
        _net_table(TaskState, task_net),
        "## Step\n",
        mermaid_diagram(STEP_TRANSITIONS, (state for state in StepState if state.is_terminal)),
        "Not drawn: from every state that is not final, `error` included, `cancel` leads to `cancelled`,\n"
        "`resolve_manually` to `resolved_manually` and `complete_manually` to `complete`.\n",
        _table(STEP_TRANSITIONS),
        "### Stored step edges\n",
        _net_table(StepState, step_net),
    ]
    return "\n".join(parts)


def mermaid_diagram(
    transitions: Mapping[tuple[TaskState, TaskEvent], TaskState]
    | Mapping[tuple[StepState, StepEvent], StepState],
    terminal: Iterable[TaskState | StepState],
) -> str:
    """Return one machine as a fenced mermaid state diagram; parallel edges share an arrow."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (source, event), target in transitions.items():
        if event not in _FROM_ANY_OPEN_STATE:
            labels.setdefault((source, target), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in labels.items()
    ]
    lines += [f"    {state} --> [*]" for state in terminal]
    return "\n".join([*lines, "```", ""])


def _table(
    transitions: Mapping[tuple[TaskState, TaskEvent], TaskState]
    | Mapping[tuple[StepState, StepEvent], StepState],
) -> str:
    rows = (f"| {source} | {event} | {target} |" for (source, event), target in transitions.items())
    return "\n".join(["| From | Event | To |", "|---|---|---|", *rows, ""])


def _net_table(
    states: type[TaskState] | type[StepState],
    edges: Mapping[tuple[TaskState, TaskState], str] | Mapping[tuple[StepState, StepState], str],
) -> str:
    def rows() -> Iterator[str]:
        for source in states:
            targets = [
                f"{b}{_remark(note)}"
                for b in states
                for (x, y), note in edges.items()
                if (x, y) == (source, b)
            ]
            if targets:
                yield f"| {source} | {', '.join(targets)} |"

    return "\n".join(["| From | To |", "|---|---|", *rows(), ""])


def _remark(note: str) -> str:
    return f" ({note})" if note else ""
