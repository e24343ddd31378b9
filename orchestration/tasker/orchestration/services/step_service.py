"""tasker.v1.StepService."""

from __future__ import annotations

from uuid import UUID

from tasker.domain.uuids import parse_uuid
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.paging import PageTokens
from tasker.persistence.reading.tasks import TaskReader
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import common_pb2, steps_pb2, steps_pb2_grpc


class StepService(steps_pb2_grpc.StepServiceServicer):
    """Reads the steps of tasks."""

    def __init__(self, reader: TaskReader, tokens: PageTokens) -> None:
        self._reader = reader
        self._tokens = tokens

    async def GetStep(
        self, request: steps_pb2.GetStepRequest, context: ServicerContext
    ) -> steps_pb2.GetStepResponse:
        """Return a step of a task."""
        task_uuid = parse.task_uuid(request.task_uuid)
        step_uuid = parse_uuid(request.step_uuid, field="step_uuid")
        return steps_pb2.GetStepResponse(step=render.step(await self._reader.step(task_uuid, step_uuid)))

    async def ListSteps(
        self, request: steps_pb2.ListStepsRequest, context: ServicerContext
    ) -> steps_pb2.ListStepsResponse:
        """Return the steps of a task, oldest first: a page of them, or all without pagination."""
        task_uuid = parse.task_uuid(request.task_uuid)
        listing = self._tokens.listing(b"steps", task_uuid.bytes)
        page = listing.page(request.pagination) if request.HasField("pagination") else None
        if page is None:
            found = await self._reader.steps(task_uuid)
            steps = found.steps
            pagination = common_pb2.PaginationResponse(total=found.total, count=len(steps))
        else:
            after = UUID(page.after[0]) if page.after else None
            found = await self._reader.steps(task_uuid, after=after, skip=page.skip, limit=page.limit + 1)
            more = len(found.steps) > page.limit
            steps = found.steps[: page.limit]
            pagination = listing.reply(
                page, found.total, steps, more=more, key=lambda step: [str(step.step_uuid)]
            )
        return steps_pb2.ListStepsResponse(steps=[render.step(step) for step in steps], pagination=pagination)
