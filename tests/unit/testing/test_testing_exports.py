"""What `tasker.testing` promises: its names, its types, and no cost where it is not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasker.testing
from tests.support.type_checking import assert_only_marked_lines_fail

EXPORTS = {
    # one handler
    "make_context",
    "batch_inputs",
    "no_op_inputs",
    "run_handler",
    "run_to_completion",
    "HandlerRun",
    "fail_n_times",
    # what became of it
    "assert_permanent",
    "assert_retryable",
    "assert_routes",
    "assert_skips",
    "assert_succeeded",
    # whole tasks
    "Engine",
    "Task",
    "Step",
    "TaskNotOverError",
}

RIGHT = """
from tasker.testing import Engine, assert_permanent, assert_retryable, fail_n_times, make_context
from tasker.testing import run_handler, run_to_completion
from tasker.worker import step_handler

@step_handler("charge")
async def charge() -> int:
    return 3

async def use(tasker_engine: Engine) -> None:
    run = await run_to_completion(fail_n_times(1, charge), make_context(max_attempts=2))
    attempts: int = run.attempts
    assert_retryable(run.results[0], "retryable_error", retry_after=30)
    assert_permanent(await run_handler(charge), message="declined")
    tasker_engine.register_handlers(charge, "shop.handlers")
    tasker_engine.register_templates("templates", {"name": "checkout"})
    task = tasker_engine.run("shop/checkout", {"cart": 1}, priority=3)
    tasker_engine.advance(hours=1, seconds=0.5)
    name: str = tasker_engine.finish(task).step("charge").name
    assert_retryable(task.step("charge"))
    print(attempts, name, task.state == "complete")
"""

WRONG = """
from tasker.testing import Engine, assert_routes, fail_n_times, make_context

make_context(input={})                               # 3 no such argument
fail_n_times("twice")                                # 4 no number
def use(tasker_engine: Engine) -> None:
    task = tasker_engine.run({"name": "checkout"})   # 6 a template instead of its name
    tasker_engine.advance(3600)                      # 7 hours, or seconds?
    task.state = "complete"                          # 8 only read
    assert_routes(task, "ship")                      # 9 a task is no result
"""


def test_the_public_names_are_frozen() -> None:
    assert set(tasker.testing.__all__) == EXPORTS
    assert [name for name in EXPORTS if not hasattr(tasker.testing, name)] == []


def test_wrong_use_fails_type_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_only_marked_lines_fail(RIGHT, WRONG, tmp_path, monkeypatch)


def test_the_plug_in_costs_nothing_where_no_test_uses_it() -> None:
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import tasker.pytest_plugin\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['tasker', 'tasker.pytest_plugin']"
