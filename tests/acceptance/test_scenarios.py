"""Every scenario runs from end to end: a client, both services, real handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any

import psycopg
import pytest

from tasker.client import Step
from tests.scenarios import scenarios
from tests.scenarios.scenarios import Run, Scenario

SCENARIOS = scenarios.load()


@pytest.fixture(scope="module")
async def runs(module_database_url: str) -> AsyncIterator[Mapping[str, asyncio.Task[Run]]]:
    """All scenarios, started at once; each test waits for its own."""
    async with scenarios.served(module_database_url) as client:
        running = {
            scenario.name: asyncio.create_task(scenarios.run(client, scenario.template, scenario.context))
            for scenario in SCENARIOS
        }
        yield running
        await asyncio.gather(*running.values(), return_exceptions=True)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_scenario(
    scenario: Scenario, runs: Mapping[str, asyncio.Task[Run]], module_database_url: str
) -> None:
    run = await runs[scenario.name]
    task = run.settled
    assert task.state == scenario.task_state
    # Equal, so that a step that should not exist is found too.
    assert {step.name: str(step.state) for step in task.steps} == {
        name: state for state, names in scenario.steps.items() for name in names
    }
    assert not {step.name for step in task.steps} & set(scenario.absent_steps)
    if scenario.initial_step_count is not None:
        assert run.created.total_steps == scenario.initial_step_count
    assert {name: task.step(name).attempts for name in scenario.attempts} == scenario.attempts
    cursors = {name: cursor_of(task.step(name), module_database_url) for name in scenario.checkpoint_cursors}
    assert cursors == scenario.checkpoint_cursors
    found = {path: at(path, run) for path in scenario.results}
    assert found == {path: about(value) for path, value in scenario.results.items()}


def at(path: str, run: Run) -> Any:
    """Return what a path `step.key.key` leads to."""
    name, *keys = path.split(".")
    return reduce(getitem, keys, run.settled.step(name).result)


def cursor_of(step: Step, database_url: str) -> Any:
    """Return where a step's last checkpoint stopped, which no client is told."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT checkpoint -> 'cursor' FROM tasker.workflow_steps WHERE task_uuid = %s AND step_uuid = %s",
            (step.task_uuid, step.step_uuid),
        ).fetchone()
    assert row is not None
    return row[0]


def about(value: Any) -> Any:
    """Return what equals a value, a number with a fraction to within a millionth."""
    return pytest.approx(value, abs=1e-6, rel=0) if isinstance(value, float) else value
