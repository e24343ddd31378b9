"""What users may import is a promise; a change here is a change for them."""

from __future__ import annotations

import subprocess
import sys

import tasker.client

EXPORTS = {
    # the clients
    "SyncTaskerClient",
    "TaskerClient",
    # what clients and calls take
    "AccessOptions",
    "HealthProbe",
    "SortField",
    "TaskQuery",
    "DlqReason",
    "ResolutionStatus",
    # what calls return
    "AuthConfig",
    "Bottlenecks",
    "Cancellation",
    "DlqEntry",
    "DlqStats",
    "Health",
    "HealthCheck",
    "HealthInfo",
    "Heartbeat",
    "Metrics",
    "NamespaceSummary",
    "ServiceConfig",
    "SlowStep",
    "SlowTask",
    "QueuedDlqEntry",
    "StalenessHealth",
    "NamespacePause",
    "PoisonMessage",
    "QueueStatus",
    "RequeuedPoison",
    "RequeuedTask",
    "RetriedTask",
    "CancelledTask",
    "CreatedTask",
    "NewTask",
    "ResolvedStep",
    "SentToDlq",
    "StepAction",
    "ChosenVersion",
    "RegisteredTemplate",
    "TemplateCheck",
    "TemplateProblem",
    "TemplateVersion",
    "Step",
    "StepAuditRecord",
    "StepDefinition",
    "StepErrorSummary",
    "StepFailure",
    "StepIntervention",
    "StepState",
    "StepSummary",
    "StepUpdate",
    "Task",
    "TaskCancellation",
    "TaskContext",
    "TaskFailure",
    "TaskPage",
    "TaskStaleness",
    "TaskState",
    "TaskSummary",
    "TaskUpdate",
    "Template",
    "TemplateListing",
    "TemplateSummary",
    "WatchedUpdate",
    # what calls raise
    "AbortedError",
    "AlreadyExistsError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "TaskerClientError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
}


def test_the_public_names_are_frozen() -> None:
    assert set(tasker.client.__all__) == EXPORTS
    assert [name for name in EXPORTS if not hasattr(tasker.client, name)] == []


def test_a_client_needs_no_database_and_no_service() -> None:
    program = (
        "import sys, tasker.client; "
        "print(sorted({'psycopg', 'pgmq', 'tasker.orchestration', 'tasker.worker'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
