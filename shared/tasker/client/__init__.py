"""The typed client: create tasks, look at them, follow them.

May import the domain and the generated stubs, nothing else of ours.
"""

from tasker.client.client import TaskerClient
from tasker.client.errors import (
    AbortedError,
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TaskerClientError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from tasker.client.records import Step, StepUpdate, Task, TaskUpdate
from tasker.domain.errors import FieldViolation
from tasker.domain.states import StepState, TaskState

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "Step",
    "StepState",
    "StepUpdate",
    "Task",
    "TaskState",
    "TaskUpdate",
    "TaskerClient",
    "TaskerClientError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
