"""The status of every mistake a caller of the orchestration can make today."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode

from tasker.v1 import common_pb2, dlq_pb2, steps_pb2, tasks_pb2, templates_pb2
from tests.support import outages
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS

NOBODY = str(uuid4())


async def test_every_mistake_has_its_status_and_reason(client: Client, engine: Engine) -> None:
    await engine.register(chain(1) | {"identity_strategy": "strict"})
    one, two = [(await client.create(context={"n": n})).task_uuid for n in (1, 2)]
    (step,) = (await client.list_steps(two)).values()
    tasks, steps, templates, dlq = client.tasks, client.steps, client.templates, client.dlq
    too_long = common_pb2.PaginationRequest(limit=1001)
    invalid, missing = StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND
    rows: list[tuple[Any, Any, StatusCode, str]] = [
        (tasks.GetTask, tasks_pb2.GetTaskRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (tasks.CancelTask, tasks_pb2.CancelTaskRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (steps.ListSteps, steps_pb2.ListStepsRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (steps.GetStep, steps_pb2.GetStepRequest(task_uuid=one, step_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (tasks.GetTaskContext, tasks_pb2.GetTaskContextRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (tasks.GetTaskSummary, tasks_pb2.GetTaskSummaryRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (
            steps.GetStepAudit,
            steps_pb2.GetStepAuditRequest(task_uuid=two, step_uuid="7"),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (steps.ResolveStep, resolve(step, 0), invalid, "INVALID_ARGUMENT"),
        (steps.ResolveStep, resolve(step, 4), invalid, "INVALID_ARGUMENT"),
        (steps.ResolveStep, resolve(step, 3), invalid, "INVALID_ARGUMENT"),
        (steps.ResolveStep, resolve(step, 2, task_uuid=one), invalid, "INVALID_ARGUMENT"),
        (dlq.GetEntryByTask, dlq_pb2.GetDlqEntryByTaskRequest(task_uuid="7"), invalid, "INVALID_ARGUMENT"),
        (dlq.ListEntries, dlq_pb2.ListDlqEntriesRequest(limit=-1), invalid, "INVALID_ARGUMENT"),
        (dlq.ListEntries, dlq_pb2.ListDlqEntriesRequest(offset=-1), invalid, "INVALID_ARGUMENT"),
        (
            dlq.GetInvestigationQueue,
            dlq_pb2.GetDlqInvestigationQueueRequest(limit=-1),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (
            dlq.GetStalenessMonitoring,
            dlq_pb2.GetStalenessMonitoringRequest(limit=-1),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (
            dlq.UpdateInvestigation,
            dlq_pb2.UpdateDlqInvestigationRequest(dlq_entry_uuid="7"),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (tasks.CreateTask, tasks_pb2.CreateTaskRequest(namespace="test"), invalid, "INVALID_ARGUMENT"),
        (tasks.CreateTask, tasks_pb2.CreateTaskRequest(name="workflow"), invalid, "INVALID_ARGUMENT"),
        (
            templates.GetTemplate,
            templates_pb2.GetTemplateRequest(name="workflow"),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (tasks.ListTasks, tasks_pb2.ListTasksRequest(pagination=too_long), invalid, "INVALID_ARGUMENT"),
        (
            tasks.CreateTask,
            tasks_pb2.CreateTaskRequest(namespace="test", name="nothing"),
            invalid,
            "TEMPLATE_NOT_FOUND",
        ),
        (
            steps.GetStep,
            steps_pb2.GetStepRequest(task_uuid=one, step_uuid=step.step_uuid),
            invalid,
            "INVALID_ARGUMENT",
        ),
        (tasks.GetTask, tasks_pb2.GetTaskRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (tasks.CancelTask, tasks_pb2.CancelTaskRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (steps.ListSteps, steps_pb2.ListStepsRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (steps.GetStep, steps_pb2.GetStepRequest(task_uuid=one, step_uuid=NOBODY), missing, "STEP_NOT_FOUND"),
        (tasks.GetTaskContext, tasks_pb2.GetTaskContextRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (tasks.GetTaskSummary, tasks_pb2.GetTaskSummaryRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (
            steps.GetStepAudit,
            steps_pb2.GetStepAuditRequest(task_uuid=one, step_uuid=NOBODY),
            missing,
            "STEP_NOT_FOUND",
        ),
        (steps.ResolveStep, resolve(step, 2, step_uuid=NOBODY), missing, "STEP_NOT_FOUND"),
        (dlq.GetEntryByTask, dlq_pb2.GetDlqEntryByTaskRequest(task_uuid=NOBODY), missing, "TASK_NOT_FOUND"),
        (dlq.GetEntryByTask, dlq_pb2.GetDlqEntryByTaskRequest(task_uuid=one), missing, "DLQ_ENTRY_NOT_FOUND"),
        (
            dlq.UpdateInvestigation,
            dlq_pb2.UpdateDlqInvestigationRequest(dlq_entry_uuid=NOBODY),
            missing,
            "DLQ_ENTRY_NOT_FOUND",
        ),
        (
            templates.GetTemplate,
            templates_pb2.GetTemplateRequest(namespace="test", name="nothing"),
            missing,
            "TEMPLATE_NOT_FOUND",
        ),
        (
            tasks.CreateTask,
            tasks_pb2.CreateTaskRequest(namespace="test", name="workflow", context_json='{"n": 1}'),
            StatusCode.ALREADY_EXISTS,
            "IDENTITY_CONFLICT",
        ),
    ]
    for method, request, code, reason in rows:
        refusal = await refused(method(request, timeout=PATIENCE_SECONDS))
        assert (refusal.code, refusal.reason) == (code, reason), request
        assert refusal.message
        assert bool(refusal.fields) == (code is invalid), request
    # A transition that the step's state does not allow names no field: the request is well formed.
    refusal = await refused(steps.ResolveStep(resolve(step, 1), timeout=PATIENCE_SECONDS))
    assert (refusal.code, refusal.reason) == (invalid, "STEP_TRANSITION_NOT_ALLOWED")


def resolve(step: tasks_pb2.Step, action: Any, **fields: Any) -> steps_pb2.ResolveStepRequest:
    """Return the request for an action on a step that lacks nothing but a result."""
    which: dict[str, Any] = {"task_uuid": step.task_uuid, "step_uuid": step.step_uuid}
    return steps_pb2.ResolveStepRequest(
        **(which | fields), action_type=action, performed_by="ada", reason="because"
    )


async def test_lists_on_an_empty_database_are_empty(client: Client) -> None:
    listing = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    assert listing == tasks_pb2.ListTasksResponse(pagination=common_pb2.PaginationResponse())
    assert listing.HasField("pagination")


@pytest.mark.own_database
async def test_without_a_database_every_call_is_unavailable(
    client: Client, engine: Engine, database_url: str
) -> None:
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    (step,) = (await client.list_steps(task)).values()
    async with outages.outage(database_url):
        for call in (
            client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS),
            client.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_uuid=task), timeout=PATIENCE_SECONDS),
            client.steps.GetStep(
                steps_pb2.GetStepRequest(task_uuid=task, step_uuid=task), timeout=PATIENCE_SECONDS
            ),
            client.templates.ListTemplates(templates_pb2.ListTemplatesRequest(), timeout=PATIENCE_SECONDS),
            client.tasks.GetTaskSummary(
                tasks_pb2.GetTaskSummaryRequest(task_uuid=task), timeout=PATIENCE_SECONDS
            ),
            client.steps.ResolveStep(resolve(step, 2), timeout=PATIENCE_SECONDS),
            client.steps.GetStepAudit(
                steps_pb2.GetStepAuditRequest(task_uuid=task, step_uuid=step.step_uuid),
                timeout=PATIENCE_SECONDS,
            ),
            client.dlq.ListEntries(dlq_pb2.ListDlqEntriesRequest(), timeout=PATIENCE_SECONDS),
            client.dlq.UpdateInvestigation(
                dlq_pb2.UpdateDlqInvestigationRequest(dlq_entry_uuid=task), timeout=PATIENCE_SECONDS
            ),
            client.dlq.GetStats(dlq_pb2.GetDlqStatsRequest(), timeout=PATIENCE_SECONDS),
        ):
            refusal = await refused(call)
            assert (refusal.code, bool(refusal.retry_after)) == (StatusCode.UNAVAILABLE, True)


@pytest.mark.own_database
async def test_a_broken_database_is_an_internal_error_that_tells_nothing(
    client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    task = (await client.create()).task_uuid
    await engine.sql("ALTER TABLE tasker.tasks RENAME TO hidden_tasks")
    for call in (
        client.tasks.GetTask(tasks_pb2.GetTaskRequest(task_uuid=task), timeout=PATIENCE_SECONDS),
        client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS),
        client.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_uuid=task), timeout=PATIENCE_SECONDS),
        client.steps.ListSteps(steps_pb2.ListStepsRequest(task_uuid=task), timeout=PATIENCE_SECONDS),
        client.create(context_json='{"n": 1}'),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (StatusCode.INTERNAL, "INTERNAL")
        assert refusal.message.startswith(
            "internal error; the service's log has the cause under correlation id "
        )
        told = f"{refusal.message} {refusal.facts}".lower()
        assert not any(word in told for word in ("select", "does not exist", "tasks", "psycopg", "/"))
