"""tasker.v1.TaskService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Final
from uuid import UUID

from tasker.domain.errors import TaskNotFoundError
from tasker.domain.states import StepState, TaskState
from tasker.orchestration.engine.creation import TaskCreator
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.watching import TransitionGroup, Watching
from tasker.orchestration.services import parse, render, render_summary
from tasker.orchestration.services.paging import Page, PageTokens
from tasker.orchestration.services.sizing import REPLY_BYTES, fitting, steps_within
from tasker.orchestration.services.step_listing import place_of_step, step_listing
from tasker.orchestration.services.task_query import task_query
from tasker.persistence.reading.listing import TaskListing
from tasker.persistence.reading.summaries import SummaryReader
from tasker.persistence.reading.tasks import StepRecord, TaskReader, TaskRecord, TaskWithSteps
from tasker.persistence.reading.transitions import TransitionRecord
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import tasks_pb2, tasks_pb2_grpc

_Update = tasks_pb2.TaskStatusUpdate

#: How many failed steps the last message of a stream names.
_MOST_PROBLEMS: Final = 20


class TaskService(tasks_pb2_grpc.TaskServiceServicer):
    """Creates, reads, lists, cancels and watches tasks."""

    def __init__(
        self,
        creator: TaskCreator,
        reader: TaskReader,
        listing: TaskListing,
        summaries: SummaryReader,
        operators: Operators,
        watching: Watching,
        tokens: PageTokens,
    ) -> None:
        self._creator = creator
        self._reader = reader
        self._listing = listing
        self._summaries = summaries
        self._operators = operators
        self._watching = watching
        self._tokens = tokens

    async def CreateTask(
        self, request: tasks_pb2.CreateTaskRequest, context: ServicerContext
    ) -> tasks_pb2.CreateTaskResponse:
        """Create a task and enqueue its first steps."""
        creation = await self._creator.create(parse.new_task(request))
        return tasks_pb2.CreateTaskResponse(
            task=render.task(creation.task), already_existed=creation.already_existed
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
        """Stream the current state, then every committed transition in order, until the task is settled.

        With `resume_cursor` there is no first message: everything after the cursor comes, or the whole history
        if the cursor is empty.
        """
        task_uuid = parse.task_uuid(request.task_uuid)
        # Before what comes after a cursor, so that nothing can end in between. A whole history names the state itself.
        state = await self._reader.state(task_uuid) if request.resume_cursor else None
        groups = self._watching.watch(
            task_uuid, steps=request.include_steps, cursor=request.resume_cursor or None
        )
        async with aclosing(groups):
            snapshot_due = not request.HasField("resume_cursor")
            async for group in groups:
                state = next(
                    (TaskState(t.to_state) for t in reversed(group.transitions) if not t.step_uuid), state
                )
                if state is None:
                    raise TaskNotFoundError(task_uuid)
                if snapshot_due:
                    snapshot_due = False
                    yield _snapshot(request.task_uuid, state, group.cursor)
                else:
                    for update in _updates(group):
                        yield update
                if state.is_settled and (ending := await self._ending(task_uuid, state, group.cursor)):
                    yield ending
                    return

    async def _existing(self, task_uuid: UUID) -> TaskRecord:
        record = await self._reader.get(task_uuid)
        if record is None:
            raise TaskNotFoundError(task_uuid)
        return record

    async def _ending(self, task_uuid: UUID, state: TaskState, cursor: str) -> _Update | None:
        """Return the last message; None if the task has moved on since its transition to this state was read."""
        succeeded = state in (TaskState.COMPLETE, TaskState.RESOLVED_MANUALLY)
        found = None if succeeded else await self._reader.with_steps(task_uuid, in_brief=True)
        if found is not None and found.task.state is not state:
            return None
        update = _Update(
            update_type=_Update.UPDATE_TYPE_TASK_COMPLETE if succeeded else _Update.UPDATE_TYPE_TASK_ERROR,
            task_state=render.TASK_STATES[state],
            task_uuid=str(task_uuid),
            cursor=cursor,
        )
        update.timestamp.GetCurrentTime()
        if not succeeded:
            update.error_message = _problems(found) or f"the task is {state.value}"
        return update


def _problems(found: TaskWithSteps | None) -> str:
    failed = [step for step in found.steps if step.state is StepState.ERROR] if found else []
    told = [_problem(step) for step in failed[:_MOST_PROBLEMS]]
    if len(failed) > len(told):
        told.append(f"and {len(failed) - len(told)} more failed")
    return "; ".join(told)


def _problem(step: StepRecord) -> str:
    error = (step.envelope or {}).get("error") or {}
    return f"step '{step.name}' failed after {step.attempts} of {step.max_attempts} attempts: {error.get('message')}"


def _snapshot(task_uuid: str, state: TaskState, cursor: str) -> _Update:
    update = _Update(
        update_type=_Update.UPDATE_TYPE_TASK_STATE_CHANGE,
        task_state=render.TASK_STATES[state],
        task_uuid=task_uuid,
        cursor=cursor,
    )
    update.timestamp.GetCurrentTime()
    return update


def _updates(group: TransitionGroup) -> Iterator[_Update]:
    """Return one message a transition; the last one carries the cursor, which continues after all of them."""
    last = len(group.transitions) - 1
    for index, transition in enumerate(group.transitions):
        update = _step_update(transition) if transition.step_uuid else _task_update(transition)
        if index == last:
            update.cursor = group.cursor
        yield update


def _task_update(transition: TransitionRecord) -> _Update:
    return _Update(
        update_type=_Update.UPDATE_TYPE_TASK_STATE_CHANGE,
        timestamp=render.timestamp(transition.created_at),
        task_state=render.TASK_STATES[transition.to_state],
        previous_state=render.TASK_STATES[transition.from_state],
        task_uuid=str(transition.task_uuid),
    )


def _step_update(transition: TransitionRecord) -> _Update:
    return _Update(
        update_type=_Update.UPDATE_TYPE_STEP_STATE_CHANGE,
        timestamp=render.timestamp(transition.created_at),
        step_update=tasks_pb2.StepUpdate(
            step_uuid=str(transition.step_uuid),
            name=transition.step_name or "",
            state=render.STEP_STATES[transition.to_state],
            attempt=transition.attempt or 0,
        ),
        task_uuid=str(transition.task_uuid),
    )
