"""tasker.v1.TaskService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from tasker.domain.errors import TaskNotFoundError
from tasker.orchestration.engine.backpressure import Backpressure
from tasker.orchestration.engine.creation import TaskCreator
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.task_watch import TaskWatch
from tasker.orchestration.services import parse, render, render_summary, updates
from tasker.orchestration.services.paging import Page, PageTokens
from tasker.orchestration.services.sizing import REPLY_BYTES, fitting, steps_within
from tasker.orchestration.services.step_listing import place_of_step, step_listing
from tasker.orchestration.services.task_query import task_query
from tasker.orchestration.services.watch_query import watch_request
from tasker.persistence.reading.listing import TaskListing
from tasker.persistence.reading.summaries import SummaryReader
from tasker.persistence.reading.tasks import TaskReader, TaskRecord
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.streams import OpenStreams
from tasker.v1 import tasks_pb2, tasks_pb2_grpc


class TaskService(tasks_pb2_grpc.TaskServiceServicer):
    """Creates, reads, lists, cancels and watches tasks."""

    def __init__(
        self,
        creator: TaskCreator,
        reader: TaskReader,
        listing: TaskListing,
        summaries: SummaryReader,
        operators: Operators,
        watch: TaskWatch,
        streams: OpenStreams,
        backpressure: Backpressure,
        tokens: PageTokens,
    ) -> None:
        self._creator = creator
        self._reader = reader
        self._listing = listing
        self._summaries = summaries
        self._operators = operators
        self._tokens = tokens
        self._watch = watch
        self._streams = streams
        self._backpressure = backpressure

    async def CreateTask(
        self, request: tasks_pb2.CreateTaskRequest, context: ServicerContext
    ) -> tasks_pb2.CreateTaskResponse:
        """Create a task and enqueue its first steps, unless too much waits already."""
        pressure = self._backpressure.admit(request.namespace)
        creation = await self._creator.create(parse.new_task(request))
        return tasks_pb2.CreateTaskResponse(
            task=render.task(creation.task),
            backpressure=render.backpressure(pressure) if pressure else None,
            already_existed=creation.already_existed,
        )

    async def GetTask(
        self, request: tasks_pb2.GetTaskRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskResponse:
        """Return a task, on request with its steps and context."""
        task_uuid = parse.task_uuid(request.task_uuid)
        if not (request.include_steps or request.include_context):
            return tasks_pb2.GetTaskResponse(task=render.task(await self._existing(task_uuid)))
        found = await self._reader.with_steps(task_uuid)
        if found is None:
            raise TaskNotFoundError(task_uuid)
        reply = tasks_pb2.GetTaskResponse(
            task=render.task(found.task),
            context=render.task_context(found.task, found.steps) if request.include_context else None,
        )
        if request.include_steps:
            steps = steps_within(map(render.step, found.steps), REPLY_BYTES - reply.ByteSize())
            reply.steps.extend(steps)
            if len(steps) < len(found.steps):
                listing, page = step_listing(self._tokens, task_uuid), Page(len(steps))
                reply.steps_pagination.CopyFrom(
                    listing.reply(page, len(found.steps), steps, more=True, key=place_of_step)
                )
        return reply

    async def ListTasks(
        self, request: tasks_pb2.ListTasksRequest, context: ServicerContext
    ) -> tasks_pb2.ListTasksResponse:
        """Return a page of the tasks that match, each as GetTask gives it."""
        query = task_query(request, self._tokens)
        found = await self._listing.page(
            query.wanted,
            query.order,
            limit=query.page.limit,
            skip=query.page.skip,
            after=query.after,
            with_context=not request.omit_context,
        )
        tasks = fitting(render.task(task, with_context=not request.omit_context) for task in found.tasks)
        return tasks_pb2.ListTasksResponse(
            tasks=tasks,
            pagination=query.listing.reply(
                query.page,
                found.total,
                found.tasks[: len(tasks)],
                more=found.more or len(tasks) < len(found.tasks),
                key=query.place_of,
            ),
        )

    async def CancelTask(
        self, request: tasks_pb2.CancelTaskRequest, context: ServicerContext
    ) -> tasks_pb2.CancelTaskResponse:
        """Cancel a task; one that is over already comes back as it is, with a message."""
        task_uuid = parse.task_uuid(request.task_uuid)
        cancellation = await self._operators.cancel(
            task_uuid, reason=request.reason or None, requested_by=request.requested_by or None
        )
        return tasks_pb2.CancelTaskResponse(
            task=render.task(await self._existing(task_uuid)),
            success=cancellation.success,
            message=cancellation.message,
        )

    async def GetTaskContext(
        self, request: tasks_pb2.GetTaskContextRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskContextResponse:
        """Return the inputs of a task and what its steps made of them."""
        task_uuid = parse.task_uuid(request.task_uuid)
        found = await self._reader.with_steps(task_uuid)
        if found is None:
            raise TaskNotFoundError(task_uuid)
        return tasks_pb2.GetTaskContextResponse(context=render.task_context(found.task, found.steps))

    async def GetTaskSummary(
        self, request: tasks_pb2.GetTaskSummaryRequest, context: ServicerContext
    ) -> tasks_pb2.GetTaskSummaryResponse:
        """Return all that a page about one task shows."""
        return render_summary.summary(await self._summaries.summary(parse.task_uuid(request.task_uuid)))

    async def StreamTaskStatus(
        self, request: tasks_pb2.StreamTaskStatusRequest, context: ServicerContext
    ) -> AsyncIterator[tasks_pb2.TaskStatusUpdate]:
        """Stream how the task stands, then every committed transition in order, until the task is settled.

        With `resume_cursor` there is no first message: everything after the cursor comes, or the whole history
        if the cursor is empty.
        """
        wanted = watch_request(request)
        with self._streams.one_of(context.peer()):
            async with aclosing(self._watch.watch(wanted)) as story:
                async for told in story:
                    for message in updates.messages(told, wanted.task_uuid):
                        yield message

    async def _existing(self, task_uuid: UUID) -> TaskRecord:
        record = await self._reader.get(task_uuid)
        if record is None:
            raise TaskNotFoundError(task_uuid)
        return record
