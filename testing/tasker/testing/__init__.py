"""For tests of handlers and workflows: contexts, runs of one handler, and an engine that runs whole tasks.

Everything public is exported here. May import anything; nothing but tests imports it.
"""

from tasker.testing.asserts import (
    assert_permanent,
    assert_retryable,
    assert_routes,
    assert_skips,
    assert_succeeded,
)
from tasker.testing.contexts import batch_inputs, make_context, no_op_inputs
from tasker.testing.engine import Engine
from tasker.testing.faults import fail_n_times
from tasker.testing.runs import HandlerRun, run_handler, run_to_completion
from tasker.testing.tasks import Step, Task, TaskNotOverError

__all__ = [
    "Engine",
    "HandlerRun",
    "Step",
    "Task",
    "TaskNotOverError",
    "assert_permanent",
    "assert_retryable",
    "assert_routes",
    "assert_skips",
    "assert_succeeded",
    "batch_inputs",
    "fail_n_times",
    "make_context",
    "no_op_inputs",
    "run_handler",
    "run_to_completion",
]
