"""tasker.v1.BatchService."""

from __future__ import annotations

from typing import Final

from tasker.orchestration.engine.backpressure import Backpressure
from tasker.orchestration.engine.creation import Creation
from tasker.orchestration.engine.groups import Groups
from tasker.orchestration.engine.operators import Cancellation
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.items import items, status
from tasker.orchestration.services.step_resolution import step_resolution
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import batch_pb2, batch_pb2_grpc

_SERVICE: Final = "/tasker.v1.BatchService"


class BatchService(batch_pb2_grpc.BatchServiceServicer):
    """Creates, cancels and mends many with one call."""

    def __init__(self, groups: Groups, backpressure: Backpressure) -> None:
        self._groups = groups
        self._backpressure = backpressure

    async def CreateTasks(
        self, request: batch_pb2.CreateTasksRequest, context: ServicerContext
    ) -> batch_pb2.CreateTasksResponse:
        """Create tasks, unless too much waits already; each has a result of its own."""
        told = [self._backpressure.admit(name) for name in sorted({task.namespace for task in request.tasks})]
        pressure = max(filter(None, told), key=lambda one: one.level, default=None)
        outcomes = await self._groups.create(
            items("tasks", request.tasks, parse.new_task), all_or_nothing=request.all_or_nothing
        )
        results = [_created(outcome) for outcome in outcomes]
        return batch_pb2.CreateTasksResponse(
            results=results,
            created=sum(bool(result.task_uuid) and not result.already_existed for result in results),
            backpressure=render.backpressure(pressure) if pressure else None,
        )

    async def CancelTasks(
        self, request: batch_pb2.CancelTasksRequest, context: ServicerContext
    ) -> batch_pb2.CancelTasksResponse:
        """Cancel tasks; those that are over already stay as they are, with a message."""
        outcomes = await self._groups.cancel(
            items("task_uuids", request.task_uuids, parse.task_uuid),
            reason=request.reason or None,
            requested_by=request.requested_by or None,
            all_or_nothing=request.all_or_nothing,
        )
        results = [
            _cancelled(task_uuid, outcome)
            for task_uuid, outcome in zip(request.task_uuids, outcomes, strict=True)
        ]
        return batch_pb2.CancelTasksResponse(
            results=results,
            cancelled=len({result.task_uuid for result in results if result.success}),
        )

    async def ResolveSteps(
        self, request: batch_pb2.ResolveStepsRequest, context: ServicerContext
    ) -> batch_pb2.ResolveStepsResponse:
        """Reset, resolve or complete steps, one after the other."""
        outcomes = await self._groups.act(
            items("steps", request.steps, step_resolution), all_or_nothing=request.all_or_nothing
        )
        results = [
            batch_pb2.ResolvedStep(
                status=status(outcome, method=f"{_SERVICE}/ResolveSteps"),
                task_uuid=step.task_uuid,
                step_uuid=step.step_uuid,
            )
            for step, outcome in zip(request.steps, outcomes, strict=True)
        ]
        return batch_pb2.ResolveStepsResponse(
            results=results, resolved=sum(not result.status.code for result in results)
        )


def _created(outcome: Creation | Exception) -> batch_pb2.CreatedTask:
    result = batch_pb2.CreatedTask(status=status(outcome, method=f"{_SERVICE}/CreateTasks"))
    if isinstance(outcome, Creation):
        result.task_uuid = str(outcome.task.task_uuid)
        result.already_existed = outcome.already_existed
    return result


def _cancelled(task_uuid: str, outcome: Cancellation | Exception) -> batch_pb2.CancelledTask:
    result = batch_pb2.CancelledTask(
        status=status(outcome, method=f"{_SERVICE}/CancelTasks"), task_uuid=task_uuid
    )
    if isinstance(outcome, Cancellation):
        result.success = outcome.success
        if outcome.message is not None:
            result.message = outcome.message
    return result
