"""Steps that a reply had no room for: their results are fetched one by one, and further steps page by page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from tasker.client.connection import Connection
from tasker.v1 import common_pb2, steps_pb2, steps_pb2_grpc, tasks_pb2


class StepReading:
    """Reads the steps of one task, all in the time of one call."""

    def __init__(
        self,
        connection: Connection,
        stub: steps_pb2_grpc.StepServiceAsyncStub,
        task_uuid: str,
        *,
        timeout: float | None,
        results: bool,
    ) -> None:
        self._connection = connection
        self._stub = stub
        self._task_uuid = task_uuid
        self._results = results
        self._deadline = time.monotonic() + (connection.timeout_seconds if timeout is None else timeout)

    async def whole(
        self, steps: Iterable[tasks_pb2.Step], pagination: common_pb2.PaginationResponse
    ) -> list[tasks_pb2.Step]:
        """Return the steps of a reply with all their results, or none, and those that follow behind them."""
        found = [await self._whole(step) for step in steps]
        return found + [await self._whole(step) async for step in self._behind(pagination)]

    async def _whole(self, step: tasks_pb2.Step) -> tasks_pb2.Step:
        if not self._results:
            for field in ("results", "results_json"):
                step.ClearField(field)
            return step
        if not step.results_omitted:
            return step
        request = steps_pb2.GetStepRequest(task_uuid=self._task_uuid, step_uuid=step.step_uuid)
        answer = await self._connection.call(self._stub.GetStep, request, timeout=self._left)
        return answer.step

    async def _behind(self, pagination: common_pb2.PaginationResponse) -> AsyncIterator[tasks_pb2.Step]:
        while pagination.has_more:
            page = common_pb2.PaginationRequest(limit=1000, page_token=pagination.next_page_token)
            request = steps_pb2.ListStepsRequest(task_uuid=self._task_uuid, pagination=page)
            answer = await self._connection.call(self._stub.ListSteps, request, timeout=self._left)
            for step in answer.steps:
                yield step
            pagination = answer.pagination

    @property
    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())
