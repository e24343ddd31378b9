"""The typed client: create tasks, look at them, watch them, cancel and mend them; async and sync.

May import the domain and the generated stubs, nothing else of ours.
"""

from tasker.client.access import AccessOptions
from tasker.client.analytics_records import Bottlenecks, Metrics, SlowStep, SlowTask
from tasker.client.batches import CancelledTask, CreatedTask, ResolvedStep
from tasker.client.client import TaskerClient
from tasker.client.config import AuthConfig, ServiceConfig
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
from tasker.client.new_task import NewTask
from tasker.client.operation_records import (
    NamespacePause,
    PoisonMessage,
    QueueStatus,
    RequeuedPoison,
    RequeuedTask,
    RetriedTask,
    SentToDlq,
)
from tasker.client.records import (
    Cancellation,
    Heartbeat,
    Step,
    StepAuditRecord,
    StepIntervention,
    StepUpdate,
    Task,
    TaskPage,
    TaskUpdate,
    WatchedUpdate,
)
from tasker.client.registry_records import (
    ChosenVersion,
    RegisteredTemplate,
    TemplateCheck,
    TemplateProblem,
    TemplateVersion,
)
from tasker.client.step_action import StepAction
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
    "AccessOptions",
    "AlreadyExistsError",
    "AuthConfig",
    "Bottlenecks",
    "Cancellation",
    "CancelledTask",
    "ChosenVersion",
    "CreatedTask",
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
    "Heartbeat",
    "InvalidArgumentError",
    "Metrics",
    "NamespacePause",
    "NamespaceSummary",
    "NewTask",
    "NotFoundError",
    "PermissionDeniedError",
    "PoisonMessage",
    "QueueStatus",
    "QueuedDlqEntry",
    "RegisteredTemplate",
    "RequeuedPoison",
    "RequeuedTask",
    "ResolutionStatus",
    "ResolvedStep",
    "ResourceExhaustedError",
    "RetriedTask",
    "SentToDlq",
    "ServiceConfig",
    "SlowStep",
    "SlowTask",
    "SortField",
    "StalenessHealth",
    "Step",
    "StepAction",
    "StepAuditRecord",
    "StepDefinition",
    "StepErrorSummary",
    "StepFailure",
    "StepIntervention",
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
    "TemplateCheck",
    "TemplateListing",
    "TemplateProblem",
    "TemplateSummary",
    "TemplateVersion",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "WatchedUpdate",
]
