"""What an operator wants done to a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from google.protobuf.struct_pb2 import Struct

from tasker.v1 import steps_pb2

_ACTIONS: Final = {
    "reset": steps_pb2.STEP_MANUAL_ACTION_TYPE_RESET_FOR_RETRY,
    "resolve": steps_pb2.STEP_MANUAL_ACTION_TYPE_RESOLVE_MANUALLY,
    "complete": steps_pb2.STEP_MANUAL_ACTION_TYPE_COMPLETE_MANUALLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAction:
    """An action on a step.

    Attributes:
        action: `reset` gives a step in `error` all its attempts again; `resolve` declares a step done without a result;
            `complete` gives it a result in place of its handler.
        task_uuid: The task.
        step_uuid: The step.
        performed_by: Who acts; kept with the change.
        reason: Why; kept with the change.
        result: Any JSON value, sent exactly; of `complete` only, as are the metadata.
        metadata: Facts to keep with the result.
    """

    action: Literal["reset", "resolve", "complete"]
    task_uuid: UUID | str
    step_uuid: UUID | str
    performed_by: str
    reason: str
    result: Any = None
    metadata: Mapping[str, Any] | None = None

    def request(self) -> steps_pb2.ResolveStepRequest:
        """Return the request for it.

        Raises:
            TypeError: The result holds something that JSON does not know.
            ValueError: The result holds NaN or an infinity.
        """
        request = steps_pb2.ResolveStepRequest(
            task_uuid=str(self.task_uuid),
            step_uuid=str(self.step_uuid),
            action_type=_ACTIONS[self.action],
            performed_by=self.performed_by,
            reason=self.reason,
        )
        if self.action == "complete":
            request.result_json = json.dumps(self.result, allow_nan=False)
        if self.metadata is not None:
            metadata = Struct()
            metadata.update(self.metadata)
            request.metadata.CopyFrom(metadata)
        return request
