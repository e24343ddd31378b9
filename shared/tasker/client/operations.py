"""Looking after a deployment: queues, namespaces, and tasks as a whole."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from functools import cached_property
from uuid import UUID

from tasker.client import dlq_parsing, parsing
from tasker.client.connection import Connection
from tasker.client.fields import instant, optional
from tasker.client.operation_records import (
    NamespacePause,
    PoisonMessage,
    QueueStatus,
    RequeuedPoison,
    RequeuedTask,
    RetriedTask,
    SentToDlq,
)
from tasker.client.paging import pages
from tasker.client.records import Task
from tasker.domain.states import StepState
from tasker.v1 import common_pb2, operations_pb2, operations_pb2_grpc


class Operations:
    """What operators do to queues, namespaces and tasks. Who acts and why is kept with each change."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def queues(
        self, namespace: str | None = None, *, timeout: float | None = None
    ) -> tuple[QueueStatus, ...]:
        """Return the queues in use with what waits in them: those of orchestration, then those of namespaces.

        Args:
            namespace: Only its queues.
            timeout: Seconds the call may take; the client's timeout by default.
        """
        request = operations_pb2.ListQueuesRequest(namespace=namespace)
        answer = await self._connection.call(self._stub.ListQueues, request, timeout=timeout)
        return tuple(_queue(queue) for queue in answer.queues)

    async def pause_namespace(
        self, namespace: str, *, requested_by: str, reason: str, timeout: float | None = None
    ) -> NamespacePause:
        """Stop workers from claiming steps of a namespace. What runs is finished, and tasks can be created.

        Args:
            namespace: Which one. If it is paused already, that pause stays and is returned.
            requested_by: Who asks.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such namespace.
        """
        request = operations_pb2.PauseNamespaceRequest(
            namespace=namespace, requested_by=requested_by, reason=reason
        )
        answer = await self._connection.call(self._stub.PauseNamespace, request, timeout=timeout)
        return _pause(answer.pause)

    async def resume_namespace(
        self, namespace: str, *, requested_by: str, timeout: float | None = None
    ) -> bool:
        """Let workers claim steps of a namespace again; return whether it was paused.

        Args:
            namespace: Which one.
            requested_by: Who asks.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such namespace.
        """
        request = operations_pb2.ResumeNamespaceRequest(namespace=namespace, requested_by=requested_by)
        answer = await self._connection.call(self._stub.ResumeNamespace, request, timeout=timeout)
        return answer.changed

    async def retry_task(
        self, task_uuid: UUID | str, *, performed_by: str, reason: str, timeout: float | None = None
    ) -> RetriedTask:
        """Reset all failed steps of a task at once: each gets all its attempts again.

        Args:
            task_uuid: The task.
            performed_by: Who acts.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: None of its steps failed, or it is over for good.
            NotFoundError: There is no such task.
        """
        request = operations_pb2.RetryTaskRequest(
            task_uuid=str(task_uuid), performed_by=performed_by, reason=reason
        )
        answer = await self._connection.call(self._stub.RetryTask, request, timeout=timeout, repeatable=False)
        return RetriedTask(task=parsing.task(answer.task), reset_steps=tuple(answer.reset_steps))

    async def resume_task(
        self, task_uuid: UUID | str, *, performed_by: str, reason: str, timeout: float | None = None
    ) -> Task:
        """Let a task go on that ended in `error` although none of its steps failed; return it without its context.

        Args:
            task_uuid: The task.
            performed_by: Who acts.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: It is not in `error`, or some of its steps are.
            NotFoundError: There is no such task.
        """
        request = operations_pb2.ResumeTaskRequest(
            task_uuid=str(task_uuid), performed_by=performed_by, reason=reason
        )
        answer = await self._connection.call(
            self._stub.ResumeTask, request, timeout=timeout, repeatable=False
        )
        return parsing.task(answer.task)

    async def requeue_task(
        self, task_uuid: UUID | str, *, performed_by: str, reason: str, timeout: float | None = None
    ) -> RequeuedTask:
        """Send again the messages of a task that were lost. Harmless where they are still there.

        Args:
            task_uuid: The task.
            performed_by: Who acts.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: The task is over.
            NotFoundError: There is no such task.
        """
        request = operations_pb2.RequeueTaskRequest(
            task_uuid=str(task_uuid), performed_by=performed_by, reason=reason
        )
        answer = await self._connection.call(self._stub.RequeueTask, request, timeout=timeout)
        return RequeuedTask(task=parsing.task(answer.task), messages=answer.messages)

    async def send_to_dlq(
        self, task_uuid: UUID | str, *, requested_by: str, reason: str, timeout: float | None = None
    ) -> SentToDlq:
        """Put a task before a person, whatever its state. If it has a pending entry already, that one stays.

        Args:
            task_uuid: The task.
            requested_by: Who asks.
            reason: Why, for whoever looks into it.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        request = operations_pb2.SendToDlqRequest(
            task_uuid=str(task_uuid), requested_by=requested_by, reason=reason
        )
        answer = await self._connection.call(self._stub.SendToDlq, request, timeout=timeout)
        return SentToDlq(entry=dlq_parsing.entry(answer.entry), created=answer.created)

    async def poison(
        self, *, task_uuid: UUID | str | None = None, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[PoisonMessage, None]:
        """Yield the messages that nobody could handle, newest first; pages are fetched when needed.

        Args:
            task_uuid: Only those that named this task.
            page_size: How many to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.
        """

        async def fetch(page: common_pb2.PaginationRequest) -> operations_pb2.ListPoisonResponse:
            request = operations_pb2.ListPoisonRequest(
                pagination=page, task_uuid=str(task_uuid) if task_uuid is not None else None
            )
            return await self._connection.call(self._stub.ListPoison, request, timeout=timeout)

        async for answer in pages(fetch, size=page_size):
            for message in answer.messages:
                yield _poison(message)

    async def requeue_poison(
        self, poison_id: int, *, performed_by: str, reason: str, timeout: float | None = None
    ) -> RequeuedPoison:
        """Let the step of a message that nobody could handle run again: it is reset.

        Args:
            poison_id: The record.
            performed_by: Who acts.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            FailedPreconditionError: The message names no step.
            InvalidArgumentError: The step is not in `error`.
            NotFoundError: There is no such record, or the step is gone.
        """
        request = operations_pb2.RequeuePoisonRequest(
            poison_id=poison_id, performed_by=performed_by, reason=reason
        )
        answer = await self._connection.call(
            self._stub.RequeuePoison, request, timeout=timeout, repeatable=False
        )
        return RequeuedPoison(task=parsing.task(answer.task), step_uuid=UUID(answer.step_uuid))

    @cached_property
    def _stub(self) -> operations_pb2_grpc.OperationsServiceAsyncStub:
        return operations_pb2_grpc.OperationsServiceStub(self._connection.channel)


def _pause(message: operations_pb2.NamespacePause) -> NamespacePause:
    return NamespacePause(
        namespace=message.namespace,
        paused_at=instant(message.paused_at),
        requested_by=message.requested_by,
        reason=message.reason,
    )


def _queue(message: operations_pb2.QueueStatus) -> QueueStatus:
    return QueueStatus(
        name=message.name,
        namespace=message.namespace or None,
        priority_band=message.priority_band or None,
        visible=message.visible,
        delayed=message.delayed,
        oldest_age_seconds=optional(message, "oldest_age_seconds"),
        workers=message.workers,
        pause=_pause(message.pause) if message.HasField("pause") else None,
    )


def _poison(message: operations_pb2.PoisonMessage) -> PoisonMessage:
    state = common_pb2.StepState.Name(message.step_state).removeprefix("STEP_STATE_").lower()
    return PoisonMessage(
        poison_id=message.poison_id,
        queue=message.queue,
        msg_id=message.msg_id,
        message=json.loads(message.message_json),
        error=message.error,
        recorded_at=instant(message.recorded_at),
        task_uuid=UUID(message.task_uuid) if message.HasField("task_uuid") else None,
        step_uuid=UUID(message.step_uuid) if message.HasField("step_uuid") else None,
        step_state=StepState(state) if message.HasField("step_state") else None,
    )
