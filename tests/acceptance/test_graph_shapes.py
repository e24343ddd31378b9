"""How work moves through a chain, a diamond, a mixed graph and a tree."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from examples import maths
from tasker.client import StepState, Task, TaskerClient, TaskState
from tasker.worker import HandlerRegistry, RetryableError, StepContext, StepHandler
from tests.scenarios import scenarios
from tests.scenarios.scenarios import EXAMPLES
from tests.support import services, waiting
from tests.support.engine import graph

LINEAR = "examples_linear/mathematical_sequence"
DIAMOND = "examples_diamond/diamond_pattern"
MIXED_DAG = "examples_mixed_dag/complex_dag"
TREE = "examples_tree/hierarchical_tree"

#: The power of n that each shape ends with, and in which step.
ENDS = {
    LINEAR: ("linear_step_4", 16),
    DIAMOND: ("diamond_end", 16),
    MIXED_DAG: ("dag_finalize", 64),
    TREE: ("tree_final_convergence", 64),
}

#: Tests that share the services run in one loop.


class Sequences:
    """The handlers of the sequences, which also note what they are given, wait at the gates of a test, and fail as
    often as the task's context says in `failures`."""

    def __init__(self) -> None:
        self.contexts: dict[str, StepContext] = {}
        self.entered: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.gates: dict[str, asyncio.Event] = {}
        self.registry = HandlerRegistry()
        for handler in (maths.Square(), maths.MultiplyAndSquare()):
            self.registry.register(self._noted(handler), name=f"examples.maths.{handler.name}")

    def _noted(self, handler: StepHandler) -> Any:
        async def call(context: StepContext) -> object:
            self.contexts[context.step_name] = context
            self.entered[context.step_name].set()
            if context.step_name in self.gates:
                await self.gates[context.step_name].wait()
            if context.attempt <= context.get_input_or("failures", {}).get(context.step_name, 0):
                raise RetryableError("as the test wants it")
            return handler.call(context)

        return call


@asynccontextmanager
async def running(
    database_url: str, registry: HandlerRegistry, templates: Path, **settings: object
) -> AsyncIterator[TaskerClient]:
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, registry, templates, **settings),
        TaskerClient(orchestration.address) as client,
    ):
        yield client


def impatient_shapes(folder: Path) -> Path:
    """Write the four templates with three quick attempts for each step."""
    documents = []
    for name in ("linear_sequence", "diamond", "complex_dag", "hierarchical_tree"):
        document = yaml.safe_load((EXAMPLES / name / f"{name}.yaml").read_text())
        for step in document["steps"]:
            step["retry"] = {"max_attempts": 3, "backoff_base_ms": 100, "max_backoff_ms": 1000}
        documents.append(document)
    return services.write_templates(folder, *documents)


@pytest.fixture(scope="module")
async def client(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TaskerClient]:
    templates = impatient_shapes(tmp_path_factory.mktemp("shapes"))
    async with running(module_database_url, Sequences().registry, templates) as client:
        yield client


def names_by_state(task: Task) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for step in task.steps:
        found[str(step.state)].add(step.name)
    return dict(found)


# What all four promise


async def test_every_shape_ends_in_the_exact_number(client: TaskerClient, module_database_url: str) -> None:
    runs = await asyncio.gather(
        *(scenarios.run(client, shape, {"even_number": n}) for shape in ENDS for n in (4, 6, 8))
    )
    wanted = [(*end, n) for end in ENDS.values() for n in (4, 6, 8)]
    for run, (last, power, n) in zip(runs, wanted, strict=True):
        assert run.settled.state is TaskState.COMPLETE
        assert run.settled.step(last).result["value"] == str(n**power)
    audited = await audit([run.settled for run in runs], module_database_url)
    assert audited == {
        step.step_uuid: [(True, "enqueued_for_orchestration")] for run in runs for step in run.settled.steps
    }


async def audit(tasks: list[Task], database_url: str) -> dict[Any, list[tuple[bool, str]]]:
    """Return the success and the transition of each audited result, by step."""
    found: defaultdict[Any, list[tuple[bool, str]]] = defaultdict(list)
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(
            "SELECT step_uuid, success, to_state FROM tasker.workflow_step_result_audit WHERE task_uuid = ANY (%s)",
            ([task.task_uuid for task in tasks],),
        )
        async for step_uuid, success, to_state in rows:
            found[step_uuid].append((success, to_state))
    return dict(found)


# Where a failure stops


@pytest.mark.parametrize(
    ("shape", "failing", "states"),
    [
        (
            LINEAR,
            "linear_step_1",
            {"error": {"linear_step_1"}, "pending": {"linear_step_2", "linear_step_3", "linear_step_4"}},
        ),
        (
            LINEAR,
            "linear_step_3",
            {
                "complete": {"linear_step_1", "linear_step_2"},
                "error": {"linear_step_3"},
                "pending": {"linear_step_4"},
            },
        ),
        (
            LINEAR,
            "linear_step_4",
            {"complete": {"linear_step_1", "linear_step_2", "linear_step_3"}, "error": {"linear_step_4"}},
        ),
        (
            DIAMOND,
            "diamond_branch_c",
            {
                "complete": {"diamond_start", "diamond_branch_b"},
                "error": {"diamond_branch_c"},
                "pending": {"diamond_end"},
            },
        ),
        (
            MIXED_DAG,
            "dag_process_left",
            {
                "complete": {"dag_init", "dag_process_right", "dag_analyze"},
                "error": {"dag_process_left"},
                "pending": {"dag_validate", "dag_transform", "dag_finalize"},
            },
        ),
        (
            TREE,
            "tree_branch_right",
            {
                "complete": {"tree_root", "tree_branch_left", "tree_leaf_d", "tree_leaf_e"},
                "error": {"tree_branch_right"},
                "pending": {"tree_leaf_f", "tree_leaf_g", "tree_final_convergence"},
            },
        ),
    ],
    ids=["chain, first", "chain, third", "chain, last", "diamond", "mixed DAG", "tree"],
)
async def test_a_step_out_of_attempts_stops_what_descends_from_it_and_nothing_else(
    client: TaskerClient, shape: str, failing: str, states: Mapping[str, set[str]]
) -> None:
    task = (await scenarios.run(client, shape, {"even_number": 2, "failures": {failing: 3}})).settled
    assert task.state is TaskState.BLOCKED_BY_FAILURES
    assert names_by_state(task) == states
    assert (task.step(failing).attempts, task.step(failing).retry_eligible) == (3, False)
    for step in task.steps:
        assert not step.ready_for_execution
        assert step.attempts == {"complete": 1, "error": 3, "pending": 0}[step.state]
        waits_for_all = step.completed_parents == step.total_parents
        assert waits_for_all == (step.state is not StepState.PENDING)


async def test_a_join_counts_the_parents_that_are_done(client: TaskerClient) -> None:
    context = {"even_number": 4, "failures": {"diamond_branch_c": 3}}
    task = (await scenarios.run(client, DIAMOND, context)).settled
    end = task.step("diamond_end")
    assert (end.completed_parents, end.total_parents, end.dependencies_satisfied) == (1, 2, False)


@pytest.mark.parametrize(
    ("shape", "failing"),
    [
        (LINEAR, "linear_step_2"),
        (DIAMOND, "diamond_start"),
        (MIXED_DAG, "dag_process_left"),
        (TREE, "tree_leaf_g"),
    ],
)
async def test_a_step_that_recovers_leaves_no_trace_in_the_number(
    client: TaskerClient, shape: str, failing: str
) -> None:
    task = (await scenarios.run(client, shape, {"even_number": 6, "failures": {failing: 1}})).settled
    assert task.state is TaskState.COMPLETE
    assert {step.name: step.attempts for step in task.steps if step.attempts != 1} == {failing: 2}
    last, power = ENDS[shape]
    assert task.step(last).result["value"] == str(6**power)


# What runs when


async def test_a_step_starts_before_a_slow_one_beside_it_ends(database_url: str) -> None:
    sequences = Sequences()
    slow = sequences.gates["dag_process_right"] = asyncio.Event()
    async with running(database_url, sequences.registry, EXAMPLES / "complex_dag") as client:
        created = await client.create("examples_mixed_dag", "complex_dag", {"even_number": 6})
        await waiting.within(sequences.entered["dag_process_right"].wait())
        await waiting.within(sequences.entered["dag_transform"].wait())
        task = await client.get(created.task_uuid, steps=True)
        assert task.step("dag_process_right").state is StepState.IN_PROGRESS
        # Those that need the slow one wait for it.
        assert {"dag_validate", "dag_analyze", "dag_finalize"} == names_by_state(task)["pending"]
        slow.set()
        task = await client.wait(created.task_uuid, timeout=waiting.PATIENCE_SECONDS)
    assert task.step("dag_finalize").result["value"] == str(6**64)


def meets_four_others() -> Callable[[], object]:
    meeting = asyncio.Barrier(5)

    async def meet() -> None:
        await meeting.wait()

    return meet


def meets_four_others_in_a_thread() -> Callable[[], object]:
    meeting = threading.Barrier(5)

    def meet() -> None:
        meeting.wait(waiting.PATIENCE_SECONDS)

    return meet


@pytest.mark.parametrize("handler", [meets_four_others, meets_four_others_in_a_thread])
async def test_as_many_roots_as_slots_run_at_the_same_time(
    handler: Callable[[], Callable[[], object]], database_url: str, tmp_path: Path
) -> None:
    registry = HandlerRegistry()
    registry.register(handler(), name="work")
    templates = services.write_templates(tmp_path / "templates", graph({f"root_{n}": [] for n in range(5)}))
    async with running(database_url, registry, templates, slots=5) as client:
        task = (await scenarios.run(client, "test/workflow", {})).settled
    assert task.state is TaskState.COMPLETE
    began = [step.last_attempted_at for step in task.steps if step.last_attempted_at]
    ended = [step.completed_at for step in task.steps if step.completed_at]
    assert len(began) == len(ended) == 5
    assert max(began) < min(ended)


# Who sees what


async def test_a_handler_sees_every_ancestor_and_no_sibling(database_url: str) -> None:
    sequences = Sequences()
    async with running(database_url, sequences.registry, EXAMPLES / "hierarchical_tree") as client:
        task = (await scenarios.run(client, TREE, {"even_number": 2})).settled
    assert task.state is TaskState.COMPLETE
    seen = {name: set(context.get_dependency_result_keys()) for name, context in sequences.contexts.items()}
    left = {"tree_root", "tree_branch_left"}
    right = {"tree_root", "tree_branch_right"}
    assert seen == {
        "tree_root": set(),
        "tree_branch_left": {"tree_root"},
        "tree_branch_right": {"tree_root"},
        "tree_leaf_d": left,
        "tree_leaf_e": left,
        "tree_leaf_f": right,
        "tree_leaf_g": right,
        "tree_final_convergence": set(seen) - {"tree_final_convergence"},
    }
    # From the join over a leaf and a branch to the root.
    assert sequences.contexts["tree_final_convergence"].get_dependency_field("tree_root", "value") == "4"
