"""What ResolveStep asks for, in the engine's terms; all mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.orchestration.engine.operators import Operators, check_performer
from tasker.orchestration.services import json_input, parse
from tasker.v1 import steps_pb2

_RESET: Final = steps_pb2.STEP_MANUAL_ACTION_TYPE_RESET_FOR_RETRY
_RESOLVE: Final = steps_pb2.STEP_MANUAL_ACTION_TYPE_RESOLVE_MANUALLY
_COMPLETE: Final = steps_pb2.STEP_MANUAL_ACTION_TYPE_COMPLETE_MANUALLY
_ACTIONS: Final = {_RESET: "RESET_FOR_RETRY", _RESOLVE: "RESOLVE_MANUALLY", _COMPLETE: "COMPLETE_MANUALLY"}
#: What published clients make of a result: it and its metadata as one object, with nothing in the field for the latter.
_WRAPPED: Final = {"result", "metadata"}


@dataclass(frozen=True, slots=True)
class StepResolution:
    """What an operator wants done to a step.

    Attributes:
        action: A StepManualActionType.
        result: The step's value; with COMPLETE_MANUALLY only, as is `metadata`.
    """

    task_uuid: UUID
    step_uuid: UUID
    action: steps_pb2.StepManualActionType.ValueType
    performed_by: str
    reason: str
    result: Any = None
    metadata: Any = None

    async def carry_out(self, operators: Operators) -> None:
        """Do it.

        Raises:
            InvalidArgumentError: The step belongs to another task, or the result cannot be stored or is no outcome.
            InvalidStepTransitionError: The step is in no state for it, or its task is over for good.
            StepNotFoundError: The task has no such step.
            TaskNotFoundError: There is no such task.
        """
        which = (self.task_uuid, self.step_uuid)
        if self.action == _RESET:
            await operators.reset_for_retry(*which, performed_by=self.performed_by, reason=self.reason)
        elif self.action == _RESOLVE:
            await operators.resolve_manually(*which, performed_by=self.performed_by, reason=self.reason)
        else:
            await operators.complete_manually(
                *which,
                result=self.result,
                metadata=self.metadata,
                performed_by=self.performed_by,
                reason=self.reason,
            )


def step_resolution(request: steps_pb2.ResolveStepRequest) -> StepResolution:
    """Return what a request asks for.

    Raises:
        InvalidArgumentError: With everything that is wrong.
    """
    problems: list[FieldViolation] = []
    task_uuid = parse.readable(problems, lambda: parse.task_uuid(request.task_uuid))
    step_uuid = parse.readable(problems, lambda: parse.step_uuid(request.step_uuid))
    if request.action_type not in _ACTIONS:
        known = ", ".join(f"{number} {name}" for number, name in _ACTIONS.items())
        problems.append(FieldViolation("action_type", f"{request.action_type} is not one of {known}"))
    parse.readable(problems, lambda: check_performer(request.performed_by, request.reason))
    result, metadata = _completion(request, problems)
    if problems or task_uuid is None or step_uuid is None:
        raise InvalidArgumentError(problems)
    return StepResolution(
        task_uuid, step_uuid, request.action_type, request.performed_by, request.reason, result, metadata
    )


def _completion(request: steps_pb2.ResolveStepRequest, problems: list[FieldViolation]) -> tuple[Any, Any]:
    """Return the result and its metadata: exact JSON text where given, else the Struct."""
    given = [field for field in ("result", "result_json", "metadata") if request.HasField(field)]
    if request.action_type != _COMPLETE:
        problems += [
            FieldViolation(field, "goes with COMPLETE_MANUALLY only; leave it out") for field in given
        ]
        return None, None
    metadata = None
    if "metadata" in given:
        metadata = parse.readable(problems, lambda: json_input.struct(request.metadata, "metadata"))
    if "result_json" in given:
        result = parse.readable(problems, lambda: json_input.text(request.result_json, "result_json"))
        return result, metadata
    if "result" not in given:
        problem = "COMPLETE_MANUALLY requires it: the value that the steps behind this one see"
        problems.append(FieldViolation("result", f"{problem}; to go on without one use RESOLVE_MANUALLY"))
        return None, metadata
    value = parse.readable(problems, lambda: json_input.struct(request.result, "result"))
    if value is not None and metadata is None and value.keys() == _WRAPPED:
        return value["result"], value["metadata"]
    return value, metadata
