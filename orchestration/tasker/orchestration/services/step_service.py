"""tasker.v1.StepService."""

from __future__ import annotations

from tasker.domain.errors import TaskNotFoundError
from tasker.orchestration.services import parse, render
from tasker.persistence.tasks import TaskReader
from tasker.rpc.context import ServicerContext
from tasker.v1 import common_pb2, steps_pb2, steps_pb2_grpc


class StepService(steps_pb2_grpc.StepServiceServicer):
    """Reads the steps of tasks."""

    def __init__(self, reader: TaskReader) -> None:
        self._reader = reader

    async def ListSteps(
        self, request: steps_pb2.ListStepsRequest, context: ServicerContext
    ) -> steps_pb2.ListStepsResponse:
        """Return all steps of a task, oldest first."""
        task_uuid = parse.task_uuid(request.task_uuid)
        steps = await self._reader.steps(task_uuid)
        if not steps and not await self._reader.exists(task_uuid):
            raise TaskNotFoundError(task_uuid)
        return steps_pb2.ListStepsResponse(
            steps=[render.step(step) for step in steps],
            pagination=common_pb2.PaginationResponse(total=len(steps), count=len(steps)),
        )
