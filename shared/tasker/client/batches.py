"""Many tasks with one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from uuid import UUID

from tasker.client.connection import Connection
from tasker.client.errors import TaskerClientError, item_error
from tasker.client.new_task import NewTask
from tasker.v1 import batch_pb2, batch_pb2_grpc, tasks_pb2

#: What one call takes: so many items, and less than the 4 MiB that a message may have.
_MAX_ITEMS: Final = 1000
_MAX_BYTES: Final = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTask:
    """What creating one task came to.

    Attributes:
        task_uuid: The task; None if it was refused.
        already_existed: Whether an earlier call with the same idempotency key created it.
        error: Why it was refused: what `create` would have raised.
    """

    task_uuid: UUID | None
    already_existed: bool
    error: TaskerClientError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledTask:
    """What cancelling one task came to.

    Attributes:
        task_uuid: The task, as it was given.
        success: Whether it was cancelled by this call; one that is over stays as it is.
        message: Why not.
        error: Why it was refused: what `cancel` would have raised.
    """

    task_uuid: str
    success: bool
    message: str | None
    error: TaskerClientError | None


class Batches:
    """Creates and cancels many tasks with one call, or with as few as it takes.

    Each item has a result of its own, in the order in which they were given. With `all_or_nothing` everything goes in
    one call, at most 1,000 items of 4 MiB together; one that is refused takes the others with it, and their error is an
    `AbortedError` with the reason `ABANDONED`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, tasks: Iterable[NewTask], *, all_or_nothing: bool = False, timeout: float | None = None
    ) -> tuple[CreatedTask, ...]:
        """Create tasks: much faster than one by one.

        Calls are repeated while the service is unavailable if every task has an idempotency key.

        Args:
            tasks: What to create.
            all_or_nothing: Whether to create none if one is refused.
            timeout: Seconds each call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: A context is too large; or all or nothing is wanted of too many.
            TypeError: A context holds something that JSON does not know.
            ValueError: A context holds NaN or an infinity.
        """
        wanted = list(tasks)
        results: list[CreatedTask] = []
        requests = [task.request() for task in wanted]
        for group in [requests] if all_or_nothing else _groups(requests):
            if not group:
                continue
            answer = await self._connection.call(
                self._stub.CreateTasks,
                batch_pb2.CreateTasksRequest(tasks=group, all_or_nothing=all_or_nothing),
                timeout=timeout,
                repeatable=all(request.HasField("idempotency_key") for request in group),
            )
            results += map(_created, answer.results)
        return tuple(results)

    async def cancel(
        self,
        task_uuids: Iterable[UUID | str],
        *,
        reason: str | None = None,
        requested_by: str | None = None,
        all_or_nothing: bool = False,
        timeout: float | None = None,
    ) -> tuple[CancelledTask, ...]:
        """Cancel tasks and all of their open steps; harmless for those that have ended.

        Args:
            task_uuids: The tasks.
            reason: Why; kept with the changes.
            requested_by: Who asks; kept with the changes.
            all_or_nothing: Whether to cancel none if one does not exist.
            timeout: Seconds each call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: A text is too long; or all or nothing is wanted of too many.
        """
        wanted = [str(task_uuid) for task_uuid in task_uuids]
        size = max(1, len(wanted)) if all_or_nothing else _MAX_ITEMS
        results: list[CancelledTask] = []
        for start in range(0, len(wanted), size):
            request = batch_pb2.CancelTasksRequest(
                task_uuids=wanted[start : start + size],
                reason=reason,
                requested_by=requested_by,
                all_or_nothing=all_or_nothing,
            )
            answer = await self._connection.call(self._stub.CancelTasks, request, timeout=timeout)
            results += map(_cancelled, answer.results)
        return tuple(results)

    @cached_property
    def _stub(self) -> batch_pb2_grpc.BatchServiceAsyncStub:
        return batch_pb2_grpc.BatchServiceStub(self._connection.channel)


def _groups(
    requests: Sequence[tasks_pb2.CreateTaskRequest],
) -> Iterator[list[tasks_pb2.CreateTaskRequest]]:
    """Yield as many requests at a time as one call takes."""
    group: list[tasks_pb2.CreateTaskRequest] = []
    size = 0
    for request in requests:
        more = request.ByteSize() + 8
        if group and (len(group) == _MAX_ITEMS or size + more > _MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(request)
        size += more
    yield group


def _created(result: batch_pb2.CreatedTask) -> CreatedTask:
    return CreatedTask(
        task_uuid=UUID(result.task_uuid) if result.task_uuid else None,
        already_existed=result.already_existed,
        error=item_error(result.status),
    )


def _cancelled(result: batch_pb2.CancelledTask) -> CancelledTask:
    return CancelledTask(
        task_uuid=result.task_uuid,
        success=result.success,
        message=result.message if result.HasField("message") else None,
        error=item_error(result.status),
    )
