"""What a client wants created."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from grpc import StatusCode

from tasker.client.errors import InvalidArgumentError
from tasker.domain.errors import FieldViolation
from tasker.domain.storable import MAX_RESULT_BYTES
from tasker.v1 import tasks_pb2


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be created.

    Attributes:
        namespace: Namespace of the template.
        name: Name of the template.
        context: What the task is about: a JSON object, sent exactly, integers of any size included.
        version: Version of the template; the highest one in use by default.
        idempotency_key: Names this request. Sent again with the same context it returns the same task.
        correlation_id: Ties the task to other work; a new one by default.
        parent_correlation_id: Correlation id of the work that causes the task.
        initiator: Who asks.
        source_system: Where the request comes from.
        reason: Why.
        priority: From -100 to 100; above 0 its steps go before those of others, below 0 after them.
        tags: Labels to find the task by.
    """

    namespace: str
    name: str
    context: Mapping[str, Any] | None = None
    version: str = ""
    idempotency_key: str | None = None
    correlation_id: UUID | str | None = None
    parent_correlation_id: UUID | str | None = None
    initiator: str | None = None
    source_system: str | None = None
    reason: str | None = None
    priority: int | None = None
    tags: Sequence[str] = ()

    def request(self) -> tasks_pb2.CreateTaskRequest:
        """Return the request to create it.

        Raises:
            InvalidArgumentError: The context is too large to be sent at all.
            TypeError: The context holds something that JSON does not know.
            ValueError: The context holds NaN or an infinity.
        """
        return tasks_pb2.CreateTaskRequest(
            namespace=self.namespace,
            name=self.name,
            version=self.version,
            context_json=_text(self.context),
            idempotency_key=self.idempotency_key,
            correlation_id=str(self.correlation_id) if self.correlation_id else None,
            parent_correlation_id=str(self.parent_correlation_id) if self.parent_correlation_id else None,
            initiator=self.initiator,
            source_system=self.source_system,
            reason=self.reason,
            priority=self.priority,
            tags=self.tags,
        )


def _text(context: Mapping[str, Any] | None) -> str | None:
    """Return a context as JSON text; refused here if the transport would not even take it to the service."""
    if context is None:
        return None
    text = json.dumps(context, allow_nan=False)
    if len(text) <= MAX_RESULT_BYTES:
        return text
    size = len(json.dumps(context, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MAX_RESULT_BYTES:
        violation = FieldViolation("context", f"takes {size} bytes as JSON, maximum {MAX_RESULT_BYTES}")
        raise InvalidArgumentError(
            f"{violation}; keep the data elsewhere and refer to it",
            code=StatusCode.INVALID_ARGUMENT,
            violations=[violation],
        )
    return text
