"""tasker.v1.StepService."""

from __future__ import annotations

from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.paging import PageTokens
from tasker.orchestration.services.step_listing import all_steps, step_listing, steps_page
from tasker.orchestration.services.step_resolution import step_resolution
from tasker.persistence.reading.audit import AuditReader
from tasker.persistence.reading.tasks import TaskReader
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import steps_pb2, steps_pb2_grpc


class StepService(steps_pb2_grpc.StepServiceServicer):
    """Reads the steps of tasks, and acts on them."""

    def __init__(
        self, reader: TaskReader, audit: AuditReader, operators: Operators, tokens: PageTokens
    ) -> None:
        self._reader = reader
        self._audit = audit
        self._operators = operators
        self._tokens = tokens

    async def GetStep(
        self, request: steps_pb2.GetStepRequest, context: ServicerContext
    ) -> steps_pb2.GetStepResponse:
        """Return a step of a task."""
        step = await self._reader.step(parse.task_uuid(request.task_uuid), parse.step_uuid(request.step_uuid))
        return steps_pb2.GetStepResponse(step=render.step(step))

    async def ListSteps(
        self, request: steps_pb2.ListStepsRequest, context: ServicerContext
    ) -> steps_pb2.ListStepsResponse:
        """Return the steps of a task, oldest first: a page of them, or all without pagination."""
        task_uuid = parse.task_uuid(request.task_uuid)
        listing = step_listing(self._tokens, task_uuid)
        if not request.HasField("pagination"):
            return all_steps(await self._reader.steps(task_uuid), listing)
        return await steps_page(self._reader, task_uuid, listing, listing.page(request.pagination))

    async def ResolveStep(
        self, request: steps_pb2.ResolveStepRequest, context: ServicerContext
    ) -> steps_pb2.ResolveStepResponse:
        """Reset, resolve or complete a step by hand, and return it as it is then."""
        resolution = step_resolution(request)
        await resolution.carry_out(self._operators)
        step = await self._reader.step(resolution.task_uuid, resolution.step_uuid)
        return steps_pb2.ResolveStepResponse(step=render.step(step))

    async def GetStepAudit(
        self, request: steps_pb2.GetStepAuditRequest, context: ServicerContext
    ) -> steps_pb2.GetStepAuditResponse:
        """Return what workers submitted for a step, newest first, and what operators did to it.

        Of the former a page, or without pagination all that fits.
        """
        task_uuid, step_uuid = parse.task_uuid(request.task_uuid), parse.step_uuid(request.step_uuid)
        listing = self._tokens.listing(b"audit", task_uuid.bytes, step_uuid.bytes)
        page = listing.page(request.pagination)
        found = await self._audit.of(
            task_uuid,
            step_uuid,
            before=page.after[0] if page.after else None,
            skip=page.skip,
            limit=page.limit if request.HasField("pagination") else None,
        )
        return steps_pb2.GetStepAuditResponse(
            audit_records=[
                render.audit_record(task_uuid, step_uuid, found.step, record) for record in found.page.rows
            ],
            pagination=listing.reply(
                page,
                found.page.total,
                found.page.rows,
                more=found.page.more,
                key=lambda record: [record.sort_key],
            ),
            interventions=[render.intervention(each) for each in found.interventions],
        )
