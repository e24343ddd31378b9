"""Many tasks or steps with one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from tasker.client.connection import Connection
from tasker.client.errors import TaskerClientError, item_error
from tasker.client.fields import optional
from tasker.client.new_task import NewTask
from tasker.client.step_action import StepAction
from tasker.v1 import batch_pb2, batch_pb2_grpc

Request = TypeVar("Request", bound=Message)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedStep:
    """What acting on one step came to.

    Attributes:
        task_uuid: The task, as it was given.
        step_uuid: The step likewise.
        error: Why it was refused: what the call for a single step would have raised.
    """

    task_uuid: str
    step_uuid: str
    error: TaskerClientError | None


class Batches:
    """Creates and cancels many tasks, and acts on many steps, with one call or with as few as it takes.

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

    async def resolve(
        self, actions: Iterable[StepAction], *, all_or_nothing: bool = False, timeout: float | None = None
    ) -> tuple[ResolvedStep, ...]:
        """Reset, resolve or complete steps, one after the other; their tasks go on by themselves.

        Args:
            actions: What to do to which steps.
            all_or_nothing: Whether to do nothing if one action is refused.
            timeout: Seconds each call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: All or nothing is wanted of too many.
            TypeError: A result holds something that JSON does not know.
            ValueError: A result holds NaN or an infinity.
        """
        requests = [action.request() for action in actions]
        results: list[ResolvedStep] = []
        for group in [requests] if all_or_nothing else _groups(requests):
            if not group:
                continue
            answer = await self._connection.call(
                self._stub.ResolveSteps,
                batch_pb2.ResolveStepsRequest(steps=group, all_or_nothing=all_or_nothing),
                timeout=timeout,
                repeatable=False,
            )
            results += map(_resolved, answer.results)
        return tuple(results)

    @cached_property
    def _stub(self) -> batch_pb2_grpc.BatchServiceAsyncStub:
        return batch_pb2_grpc.BatchServiceStub(self._connection.channel)


def _groups(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Yield as many requests at a time as one call takes."""
    group: list[Request] = []
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
        message=optional(result, "message"),
        error=item_error(result.status),
    )


def _resolved(result: batch_pb2.ResolvedStep) -> ResolvedStep:
    return ResolvedStep(
        task_uuid=result.task_uuid, step_uuid=result.step_uuid, error=item_error(result.status)
    )
