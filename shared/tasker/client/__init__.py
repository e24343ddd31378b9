"""The typed client: create tasks, look at them, watch them, cancel and mend them; async and sync.

May import the domain and the generated stubs, nothing else of ours.
"""

from tasker.client.client import TaskerClient
from tasker.client.dlq_records import DlqEntry, DlqStats, QueuedDlqEntry, TaskStaleness
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
from tasker.client.failure_records import StepFailure, TaskCancellation, TaskFailure
from tasker.client.health_records import Health, HealthCheck, HealthInfo, HealthProbe
from tasker.client.listing import SortField, TaskQuery
from tasker.client.records import (
    Cancellation,
    Step,
    StepAuditRecord,
    StepUpdate,
    Task,
    TaskPage,
    TaskUpdate,
)
from tasker.client.summary_records import StepErrorSummary, StepSummary, TaskContext, TaskSummary
from tasker.client.sync import SyncTaskerClient
from tasker.client.template_records import (
    NamespaceSummary,
    StepDefinition,
    Template,
    TemplateListing,
    TemplateSummary,
)
from tasker.domain.dlq import DlqReason, ResolutionStatus, StalenessHealth
from tasker.domain.errors import FieldViolation
from tasker.domain.states import StepState, TaskState

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "Cancellation",
    "DeadlineExceededError",
    "DlqEntry",
    "DlqReason",
    "DlqStats",
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
    "QueuedDlqEntry",
    "ResolutionStatus",
    "ResourceExhaustedError",
    "SortField",
    "StalenessHealth",
    "Step",
    "StepAuditRecord",
    "StepDefinition",
    "StepErrorSummary",
    "StepFailure",
    "StepState",
    "StepSummary",
    "StepUpdate",
    "SyncTaskerClient",
    "Task",
    "TaskCancellation",
    "TaskContext",
    "TaskFailure",
    "TaskPage",
    "TaskQuery",
    "TaskStaleness",
    "TaskState",
    "TaskSummary",
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
