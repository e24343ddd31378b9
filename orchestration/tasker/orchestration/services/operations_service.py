"""tasker.v1.OperationsService."""

from __future__ import annotations

import json
from uuid import UUID

from tasker.domain.errors import TaskNotFoundError
from tasker.orchestration.engine.dlq import DlqEntries
from tasker.orchestration.engine.namespaces import Namespaces, Queues
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.poison import PoisonMessages
from tasker.orchestration.services import parse, render, render_dlq
from tasker.orchestration.services.paging import PageTokens
from tasker.persistence.operations.pause import Paused
from tasker.persistence.reading.poison import PoisonRecord
from tasker.persistence.reading.queues import NamespacePause, QueueStatus
from tasker.persistence.reading.tasks import TaskReader
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import operations_pb2, operations_pb2_grpc, tasks_pb2


class OperationsService(operations_pb2_grpc.OperationsServiceServicer):
    """Runs a deployment: queues, namespaces, and tasks as a whole."""

    def __init__(
        self,
        namespaces: Namespaces,
        operators: Operators,
        dlq: DlqEntries,
        poison: PoisonMessages,
        reader: TaskReader,
        tokens: PageTokens,
    ) -> None:
        self._namespaces = namespaces
        self._operators = operators
        self._dlq = dlq
        self._poison = poison
        self._reader = reader
        self._tokens = tokens

    async def ListQueues(
        self, request: operations_pb2.ListQueuesRequest, context: ServicerContext
    ) -> operations_pb2.ListQueuesResponse:
        """Return the queues in use with what waits in them."""
        found = await self._namespaces.queues(request.namespace or None)
        return operations_pb2.ListQueuesResponse(queues=[_queue(queue, found) for queue in found.queues])

    async def PauseNamespace(
        self, request: operations_pb2.PauseNamespaceRequest, context: ServicerContext
    ) -> operations_pb2.PauseNamespaceResponse:
        """Stop workers from claiming steps of a namespace."""
        paused = await self._namespaces.pause(
            request.namespace, requested_by=request.requested_by, reason=request.reason
        )
        return operations_pb2.PauseNamespaceResponse(pause=_pause(paused), changed=paused.changed)

    async def ResumeNamespace(
        self, request: operations_pb2.ResumeNamespaceRequest, context: ServicerContext
    ) -> operations_pb2.ResumeNamespaceResponse:
        """Let workers claim steps of a namespace again."""
        changed = await self._namespaces.resume(request.namespace, requested_by=request.requested_by)
        return operations_pb2.ResumeNamespaceResponse(changed=changed)

    async def RetryTask(
        self, request: operations_pb2.RetryTaskRequest, context: ServicerContext
    ) -> operations_pb2.RetryTaskResponse:
        """Reset all failed steps of a task."""
        task_uuid = parse.task_uuid(request.task_uuid)
        names = await self._operators.retry(
            task_uuid, performed_by=request.performed_by, reason=request.reason
        )
        return operations_pb2.RetryTaskResponse(task=await self._task(task_uuid), reset_steps=names)

    async def ResumeTask(
        self, request: operations_pb2.ResumeTaskRequest, context: ServicerContext
    ) -> operations_pb2.ResumeTaskResponse:
        """Let a task go on that ended in `error` although none of its steps failed."""
        task_uuid = parse.task_uuid(request.task_uuid)
        await self._operators.resume(task_uuid, performed_by=request.performed_by, reason=request.reason)
        return operations_pb2.ResumeTaskResponse(task=await self._task(task_uuid))

    async def RequeueTask(
        self, request: operations_pb2.RequeueTaskRequest, context: ServicerContext
    ) -> operations_pb2.RequeueTaskResponse:
        """Send lost messages of a task again."""
        task_uuid = parse.task_uuid(request.task_uuid)
        messages = await self._operators.requeue(
            task_uuid, performed_by=request.performed_by, reason=request.reason
        )
        return operations_pb2.RequeueTaskResponse(task=await self._task(task_uuid), messages=messages)

    async def SendToDlq(
        self, request: operations_pb2.SendToDlqRequest, context: ServicerContext
    ) -> operations_pb2.SendToDlqResponse:
        """Put a task before a person."""
        opened = await self._dlq.open(
            parse.task_uuid(request.task_uuid),
            reason=request.reason or None,
            requested_by=request.requested_by or None,
        )
        return operations_pb2.SendToDlqResponse(entry=render_dlq.entry(opened.entry), created=opened.created)

    async def ListPoison(
        self, request: operations_pb2.ListPoisonRequest, context: ServicerContext
    ) -> operations_pb2.ListPoisonResponse:
        """Return a page of the messages that nobody could handle, newest first."""
        task_uuid = parse.task_uuid(request.task_uuid) if request.task_uuid else None
        listing = self._tokens.listing(b"poison", task_uuid.bytes if task_uuid else b"")
        page = listing.page(request.pagination)
        found = await self._poison.page(
            task_uuid=task_uuid,
            before=page.after[0] if page.after else None,
            skip=page.skip,
            limit=page.limit + 1,
        )
        messages = found.messages[: page.limit]
        return operations_pb2.ListPoisonResponse(
            messages=[_poison(record) for record in messages],
            pagination=listing.reply(
                page,
                found.total,
                messages,
                more=len(found.messages) > page.limit,
                key=lambda record: [record.poison_id],
            ),
        )

    async def RequeuePoison(
        self, request: operations_pb2.RequeuePoisonRequest, context: ServicerContext
    ) -> operations_pb2.RequeuePoisonResponse:
        """Let the step of such a message run again."""
        task_uuid, step_uuid = await self._poison.requeue(
            request.poison_id, performed_by=request.performed_by, reason=request.reason
        )
        return operations_pb2.RequeuePoisonResponse(
            task=await self._task(task_uuid), step_uuid=str(step_uuid)
        )

    async def _task(self, task_uuid: UUID) -> tasks_pb2.Task:
        """Return a task without its context: who operates it need not be one who may read that."""
        record = await self._reader.get(task_uuid)
        if record is None:
            raise TaskNotFoundError(task_uuid)
        return render.task(record, with_context=False)


def _queue(queue: QueueStatus, found: Queues) -> operations_pb2.QueueStatus:
    pause = found.pauses.get(queue.namespace) if queue.namespace is not None else None
    return operations_pb2.QueueStatus(
        name=queue.name,
        namespace=queue.namespace or "",
        priority_band=queue.band or "",
        visible=queue.visible,
        delayed=queue.delayed,
        oldest_age_seconds=queue.oldest_age_seconds,
        workers=queue.workers,
        pause=_pause(pause) if pause is not None else None,
    )


def _pause(pause: NamespacePause | Paused) -> operations_pb2.NamespacePause:
    return operations_pb2.NamespacePause(
        namespace=pause.namespace,
        paused_at=render.timestamp(pause.paused_at),
        requested_by=pause.requested_by,
        reason=pause.reason,
    )


def _poison(record: PoisonRecord) -> operations_pb2.PoisonMessage:
    return operations_pb2.PoisonMessage(
        poison_id=record.poison_id,
        queue=record.queue,
        msg_id=record.msg_id,
        message_json=json.dumps(record.message, ensure_ascii=False),
        error=record.error,
        recorded_at=render.timestamp(record.recorded_at),
        task_uuid=str(record.task_uuid) if record.task_uuid else None,
        step_uuid=str(record.step_uuid) if record.step_uuid else None,
        step_state=render.STEP_STATES[record.step_state] if record.step_state else None,
    )
