"""From what a watcher is told to the messages of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from tasker.domain.states import StepState
from tasker.orchestration.engine.feed_watch import ToldOfFeed
from tasker.orchestration.engine.task_watch import Change, Ending, Kind, Present, SignOfLife, Told
from tasker.orchestration.services import render
from tasker.persistence.reading.transitions import TransitionRecord
from tasker.v1 import tasks_pb2, watch_pb2

_Update = tasks_pb2.TaskStatusUpdate

_ENDINGS: Final = {
    Kind.COMPLETE: _Update.UPDATE_TYPE_TASK_COMPLETE,
    Kind.ERROR: _Update.UPDATE_TYPE_TASK_ERROR,
}
#: So many steps stand in one message: with the longest names they stay far below what clients take.
_MOST_STEPS: Final = 4000


def messages(told: Told, task_uuid: UUID) -> Iterator[_Update]:
    """Return the messages for what is told of one task."""
    match told:
        case Present():
            yield from _present(told)
        case Change():
            message = _transition(told.transition)
            if told.cursor is not None:
                message.cursor = told.cursor
            yield message
        case SignOfLife():
            yield _Update(timestamp=render.timestamp(told.at), task_uuid=str(task_uuid), cursor=told.cursor)
        case Ending():
            yield _Update(
                update_type=_ENDINGS[told.kind],
                timestamp=render.timestamp(told.at),
                task_state=render.TASK_STATES[told.state],
                error_message=told.error_message,
                task_uuid=str(task_uuid),
                cursor=told.cursor,
            )


def response(told: ToldOfFeed) -> watch_pb2.WatchTasksResponse:
    """Return the message for what is told of many tasks."""
    if isinstance(told, SignOfLife):
        update = _Update(timestamp=render.timestamp(told.at))
        return watch_pb2.WatchTasksResponse(update=update, cursor=told.cursor)
    return watch_pb2.WatchTasksResponse(
        update=_transition(told.news.transition),
        namespace=told.news.namespace,
        name=told.news.name,
        cursor=told.cursor or "",
    )


def _present(told: Present) -> Iterator[_Update]:
    watched = told.watched
    for start in range(0, len(watched.steps) or 1, _MOST_STEPS):
        is_last = start + _MOST_STEPS >= len(watched.steps)
        yield _Update(
            update_type=_Update.UPDATE_TYPE_TASK_STATE_CHANGE,
            timestamp=render.timestamp(told.at),
            task_state=render.TASK_STATES[watched.task.state],
            task_uuid=str(watched.task.task_uuid),
            task=render.task(watched.task, with_context=False),
            steps=[
                _step(step.step_uuid, step.name, step.state, step.attempts)
                for step in watched.steps[start : start + _MOST_STEPS]
            ],
            cursor=told.cursor if is_last else None,
        )


def _transition(transition: TransitionRecord) -> _Update:
    if transition.step_uuid is None:
        return _Update(
            update_type=_Update.UPDATE_TYPE_TASK_STATE_CHANGE,
            timestamp=render.timestamp(transition.at),
            task_state=render.TASK_STATES[transition.to_state],
            previous_state=render.TASK_STATES[transition.from_state],
            task_uuid=str(transition.task_uuid),
        )
    return _Update(
        update_type=_Update.UPDATE_TYPE_STEP_STATE_CHANGE,
        timestamp=render.timestamp(transition.at),
        step_update=_step(
            transition.step_uuid,
            transition.step_name or "",
            StepState(transition.to_state),
            transition.attempt or 0,
        ),
        task_uuid=str(transition.task_uuid),
    )


def _step(step_uuid: UUID, name: str, state: StepState, attempt: int) -> tasks_pb2.StepUpdate:
    return tasks_pb2.StepUpdate(
        step_uuid=str(step_uuid), name=name, state=render.STEP_STATES[state], attempt=attempt
    )
