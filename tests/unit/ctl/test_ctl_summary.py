"""A task in brief, as people see it."""

from __future__ import annotations

import io
from uuid import UUID

import pytest
from rich.console import Console

from tasker.client import summary_parsing
from tasker.ctl import task_views
from tasker.v1 import tasks_pb2

TASK = UUID("01980000-0000-7000-8000-000000000001")
INSTANT = "2026-01-02T12:00:00+00:00"


@pytest.mark.parametrize("omitted", [0, 7])
def test_steps_that_an_answer_does_not_hold_are_counted(omitted: int) -> None:
    message = tasks_pb2.GetTaskSummaryResponse(
        task=tasks_pb2.TaskSummaryMetadata(
            task_uuid=str(TASK),
            correlation_id=str(TASK),
            name="checkout",
            namespace="shop",
            version="1.0.0",
            status="pending",
            created_at=INSTANT,
            updated_at=INSTANT,
        ),
        steps=[tasks_pb2.StepSummaryInfo(step_uuid=str(TASK), name="pay", current_state="pending")],
        omitted_steps=omitted,
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(task_views.task_summary(summary_parsing.task_summary(message)))
    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue().splitlines()[-1]
    assert (last == f"and 7 more: tasker step list {TASK}") == bool(omitted)
