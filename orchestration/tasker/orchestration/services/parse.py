"""From requests to the engine's terms; every mistake is an InvalidArgumentError that names the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.storable import kind_of, text_problem
from tasker.domain.uuids import parse_uuid
from tasker.orchestration.engine.creation import NewTask, problems_of
from tasker.orchestration.services import json_input
from tasker.v1 import tasks_pb2, templates_pb2

Value = TypeVar("Value")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: What a protobuf Timestamp may hold: the years 1 to 9999.
_SECONDS: Final = range(-62_135_596_800, 253_402_300_800)


def new_task(request: tasks_pb2.CreateTaskRequest) -> NewTask:
    """Return what CreateTask asks for (all eleven fields are honoured).

    Raises:
        InvalidArgumentError: A uuid or the context cannot be read; it names whatever else is wrong, too.
    """
    problems: list[FieldViolation] = []
    task = NewTask(
        namespace=request.namespace,
        name=request.name,
        version=request.version,
        context=readable(problems, lambda: _context(request)),
        correlation_id=readable(problems, lambda: _optional_uuid(request, "correlation_id")),
        parent_correlation_id=readable(problems, lambda: _optional_uuid(request, "parent_correlation_id")),
        initiator=request.initiator if request.HasField("initiator") else "grpc",
        source_system=request.source_system if request.HasField("source_system") else "tasker-core",
        reason=request.reason if request.HasField("reason") else "Task created via gRPC",
        priority=request.priority,
        tags=tuple(request.tags),
        idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
    )
    if problems:
        raise InvalidArgumentError([*problems, *problems_of(task)])
    return task


def task_uuid(text: str) -> UUID:
    """Return a task's uuid."""
    return parse_uuid(text, field="task_uuid")


def step_uuid(text: str) -> UUID:
    """Return a step's uuid."""
    return parse_uuid(text, field="step_uuid")


def instant(value: Timestamp, field: str) -> datetime:
    """Return the first microsecond not before a timestamp: ours have no finer parts, so both ends may be so."""
    if value.seconds not in _SECONDS or not 0 <= value.nanos < 1_000_000_000:
        raise InvalidArgumentError.of(field, "is not a timestamp between the years 1 and 9999")
    microseconds = min(-(-value.nanos // 1000), 999_999 if value.seconds == _SECONDS[-1] else 1_000_000)
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=microseconds)


def namespace(request: templates_pb2.ListTemplatesRequest) -> str | None:
    """Return the namespace to list, None for all."""
    if (problem := text_problem(request.namespace)) is not None:
        raise InvalidArgumentError.of("namespace", problem)
    return request.namespace or None


def template_key(request: templates_pb2.GetTemplateRequest) -> tuple[str, str, str]:
    """Return namespace, name and version of a template; the version may be empty."""
    violations = [
        FieldViolation(field, "required") for field in ("namespace", "name") if not getattr(request, field)
    ]
    violations += [
        FieldViolation(field, problem)
        for field in ("namespace", "name", "version")
        if (problem := text_problem(getattr(request, field))) is not None
    ]
    if violations:
        raise InvalidArgumentError(violations)
    return request.namespace, request.name, request.version


def readable(problems: list[FieldViolation], read: Callable[[], Value | None]) -> Value | None:
    """Return what was read; None, and add to the problems, if it cannot be."""
    try:
        return read()
    except InvalidArgumentError as error:
        problems.extend(error.violations)
        return None


def _optional_uuid(request: tasks_pb2.CreateTaskRequest, field: str) -> UUID | None:
    text: str = getattr(request, field)
    return parse_uuid(text, field=field) if text else None


def _context(request: tasks_pb2.CreateTaskRequest) -> Mapping[str, Any] | None:
    """Return the context: exact JSON text where given, else the Struct."""
    if request.HasField("context_json"):
        value = json_input.text(request.context_json, "context_json")
        if not isinstance(value, dict):
            raise InvalidArgumentError.of("context_json", f"must be an object, got {kind_of(value)}")
        return value
    return json_input.struct(request.context, "context") if request.HasField("context") else None
