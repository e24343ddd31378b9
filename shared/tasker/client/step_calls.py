"""The client's calls about steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

from tasker.client import parsing
from tasker.client.connection import Connection
from tasker.client.paging import pages
from tasker.client.records import Step, StepAuditRecord, StepIntervention
from tasker.client.step_action import StepAction
from tasker.client.step_reading import StepReading
from tasker.v1 import common_pb2, steps_pb2, steps_pb2_grpc


class StepCalls:
    """Reads steps, and acts on them as operators do: the task of a step goes on by itself."""

    _connection: Connection

    async def steps(
        self, task_uuid: UUID | str, *, results: bool = True, timeout: float | None = None
    ) -> tuple[Step, ...]:
        """Return the steps of a task, oldest first.

        Args:
            task_uuid: The task.
            results: With their results; those that one reply has no room for are fetched one by one.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        reading = self._reading(task_uuid, timeout, results=results)
        request = steps_pb2.ListStepsRequest(task_uuid=str(task_uuid))
        answer = await self._connection.call(self._steps.ListSteps, request, timeout=timeout)
        return tuple(parsing.step(step) for step in await reading.whole(answer.steps, answer.pagination))

    async def step(
        self, task_uuid: UUID | str, step_uuid: UUID | str, *, timeout: float | None = None
    ) -> Step:
        """Return one step of a task with its result.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It belongs to another task.
        """
        request = steps_pb2.GetStepRequest(task_uuid=str(task_uuid), step_uuid=str(step_uuid))
        answer = await self._connection.call(self._steps.GetStep, request, timeout=timeout)
        return parsing.step(answer.step)

    async def reset_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        performed_by: str,
        reason: str,
        timeout: float | None = None,
    ) -> Step:
        """Give a step in `error` all its attempts again; return it as it is then.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            performed_by: Who acts; kept with the change.
            reason: Why; kept with the change.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It is not in `error`, its task is over for good, or it belongs to another task.
        """
        return await self._act(
            StepAction(
                action="reset",
                task_uuid=task_uuid,
                step_uuid=step_uuid,
                performed_by=performed_by,
                reason=reason,
            ),
            timeout,
        )

    async def resolve_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        performed_by: str,
        reason: str,
        timeout: float | None = None,
    ) -> Step:
        """Declare a step done without a result, so that the steps behind it run; return it as it is then.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            performed_by: Who acts; kept with the change.
            reason: Why; kept with the change.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It or its task is over for good, or it belongs to another task.
        """
        return await self._act(
            StepAction(
                action="resolve",
                task_uuid=task_uuid,
                step_uuid=step_uuid,
                performed_by=performed_by,
                reason=reason,
            ),
            timeout,
        )

    async def complete_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        result: Any,
        *,
        performed_by: str,
        reason: str,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Step:
        """Give a step a result in place of its handler, which the steps behind it see; return it as it is then.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            result: Any JSON value, sent exactly.
            performed_by: Who acts; kept with the change and with the result.
            reason: Why; kept with the change and with the result.
            metadata: Facts to keep with the result.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It or its task is over for good, it belongs to another task, or the result cannot be
                stored or is no outcome of a decision or batchable step.
            TypeError: The result holds something that JSON does not know.
            ValueError: The result holds NaN or an infinity.
        """
        return await self._act(
            StepAction(
                action="complete",
                task_uuid=task_uuid,
                step_uuid=step_uuid,
                performed_by=performed_by,
                reason=reason,
                result=result,
                metadata=metadata,
            ),
            timeout,
        )

    async def step_audit(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        page_size: int = 50,
        timeout: float | None = None,
    ) -> AsyncGenerator[StepAuditRecord, None]:
        """Yield the results that workers submitted for a step, newest first; pages are fetched when needed.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            page_size: How many to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It belongs to another task.
        """

        def fetch(page: common_pb2.PaginationRequest) -> Awaitable[steps_pb2.GetStepAuditResponse]:
            request = steps_pb2.GetStepAuditRequest(
                task_uuid=str(task_uuid), step_uuid=str(step_uuid), pagination=page
            )
            return self._connection.call(self._steps.GetStepAudit, request, timeout=timeout)

        async for answer in pages(fetch, size=page_size):
            for record in answer.audit_records:
                yield parsing.audit_record(record)

    async def step_interventions(
        self, task_uuid: UUID | str, step_uuid: UUID | str, *, timeout: float | None = None
    ) -> tuple[StepIntervention, ...]:
        """Return what operators did to a step, newest first: who, when and why; the 100 newest at most.

        Args:
            task_uuid: The task.
            step_uuid: The step.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such step.
            InvalidArgumentError: It belongs to another task.
        """
        request = steps_pb2.GetStepAuditRequest(
            task_uuid=str(task_uuid),
            step_uuid=str(step_uuid),
            pagination=common_pb2.PaginationRequest(limit=1),
        )
        answer = await self._connection.call(self._steps.GetStepAudit, request, timeout=timeout)
        return tuple(parsing.intervention(each) for each in answer.interventions)

    async def _act(self, action: StepAction, timeout: float | None) -> Step:
        # Not repeated: what came through although it failed would be refused the second time.
        answer = await self._connection.call(
            self._steps.ResolveStep, action.request(), timeout=timeout, repeatable=False
        )
        return parsing.step(answer.step)

    def _reading(self, task_uuid: UUID | str, timeout: float | None, *, results: bool = True) -> StepReading:
        return StepReading(self._connection, self._steps, str(task_uuid), timeout=timeout, results=results)

    @cached_property
    def _steps(self) -> steps_pb2_grpc.StepServiceAsyncStub:
        return steps_pb2_grpc.StepServiceStub(self._connection.channel)
