"""What watches ask for, in the engine's terms; all mistakes are told at once."""

from __future__ import annotations

from typing import Final

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.storable import text_problem
from tasker.orchestration.engine.feed_watch import FeedRequest
from tasker.orchestration.engine.feeds import TaskWish
from tasker.orchestration.engine.task_watch import Kind, WatchRequest
from tasker.orchestration.services import parse
from tasker.orchestration.services.task_query import Fields
from tasker.v1 import tasks_pb2, watch_pb2

_HEARTBEAT_SECONDS: Final = range(1, 3601)
_MOST_STEP_NAMES: Final = 1000
_KINDS: Final = {
    tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_STATE_CHANGE: Kind.TASK_CHANGE,
    tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_STEP_STATE_CHANGE: Kind.STEP_CHANGE,
    tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE: Kind.COMPLETE,
    tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_ERROR: Kind.ERROR,
}
_NEEDS_STEPS: Final = "needs include_steps"


def watch_request(request: tasks_pb2.StreamTaskStatusRequest) -> WatchRequest:
    """Return what StreamTaskStatus asks for.

    Raises:
        InvalidArgumentError: With everything that is wrong, but for the cursor.
    """
    violations = [*_heartbeat_problems(request), *_type_problems(request), *_name_problems(request)]
    try:
        task_uuid = parse.task_uuid(request.task_uuid)
    except InvalidArgumentError as error:
        violations[:0] = error.violations
    if violations:
        raise InvalidArgumentError(violations)
    return WatchRequest(
        task_uuid=task_uuid,
        resume_cursor=request.resume_cursor if request.HasField("resume_cursor") else None,
        steps=request.include_steps,
        step_names=frozenset(request.step_names),
        kinds=frozenset(_KINDS[number] for number in request.update_types),
        heartbeat_seconds=_heartbeat(request),
    )


def feed_request(request: watch_pb2.WatchTasksRequest) -> FeedRequest:
    """Return what WatchTasks asks for.

    Raises:
        InvalidArgumentError: With everything that is wrong, but for the cursor.
    """
    fields = Fields(request)
    wish = TaskWish(
        namespace=fields.text("namespace"),
        name=fields.text("name"),
        tags=frozenset(fields.tags("tags")),
        correlation_id=fields.uuid("correlation_id"),
        states=frozenset(fields.states()),
    )
    violations = [*fields.violations, *_heartbeat_problems(request)]
    if violations:
        raise InvalidArgumentError(violations)
    return FeedRequest(
        wish=wish,
        steps=request.include_steps,
        resume_cursor=request.resume_cursor or None,
        heartbeat_seconds=_heartbeat(request),
    )


def _heartbeat(request: tasks_pb2.StreamTaskStatusRequest | watch_pb2.WatchTasksRequest) -> float | None:
    return request.heartbeat_seconds if request.HasField("heartbeat_seconds") else None


def _heartbeat_problems(
    request: tasks_pb2.StreamTaskStatusRequest | watch_pb2.WatchTasksRequest,
) -> list[FieldViolation]:
    seconds = _heartbeat(request)
    if seconds is None or seconds in _HEARTBEAT_SECONDS:
        return []
    return [FieldViolation("heartbeat_seconds", f"{seconds} not in 1..3600; leave it out for none")]


def _type_problems(request: tasks_pb2.StreamTaskStatusRequest) -> list[FieldViolation]:
    problems = []
    for index, number in enumerate(request.update_types):
        kind = _KINDS.get(number)
        if kind is None:
            problem = f"{number} is not a type of updates that can be chosen; leave it out to see all"
        elif kind is Kind.STEP_CHANGE and not request.include_steps:
            problem = _NEEDS_STEPS
        else:
            continue
        problems.append(FieldViolation(f"update_types[{index}]", problem))
    return problems


def _name_problems(request: tasks_pb2.StreamTaskStatusRequest) -> list[FieldViolation]:
    if not request.step_names:
        return []
    if not request.include_steps:
        return [FieldViolation("step_names", _NEEDS_STEPS)]
    if len(request.step_names) > _MOST_STEP_NAMES:
        problem = (
            f"has {len(request.step_names)} names, maximum {_MOST_STEP_NAMES}; leave it out to see all steps"
        )
        return [FieldViolation("step_names", problem)]
    return [
        FieldViolation(f"step_names[{index}]", found)
        for index, name in enumerate(request.step_names)
        if (found := text_problem(name) if name else "must not be empty") is not None
    ]
