"""The typed client: create tasks, look at them, watch them, cancel them; async and sync.

May import the domain and the generated stubs, nothing else of ours.
"""

from tasker.client.access import AccessOptions
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
from tasker.client.health_records import Health, HealthCheck, HealthInfo, HealthProbe
from tasker.client.listing import SortField, TaskQuery
from tasker.client.records import Cancellation, Step, StepUpdate, Task, TaskPage, TaskUpdate
from tasker.client.sync import SyncTaskerClient
from tasker.client.template_records import (
    NamespaceSummary,
    StepDefinition,
    Template,
    TemplateListing,
    TemplateSummary,
)
from tasker.domain.errors import FieldViolation
from tasker.domain.states import StepState, TaskState

__all__ = [
    "AbortedError",
    "AccessOptions",
    "AlreadyExistsError",
    "Cancellation",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "Health",
    "HealthCheck",
    "HealthInfo",
    "HealthProbe",
    "InvalidArgumentError",
    "NamespaceSummary",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "SortField",
    "Step",
    "StepDefinition",
    "StepState",
    "StepUpdate",
    "SyncTaskerClient",
    "Task",
    "TaskPage",
    "TaskQuery",
    "TaskState",
    "TaskUpdate",
    "TaskerClient",
    "TaskerClientError",
    "Template",
    "TemplateListing",
    "TemplateSummary",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
