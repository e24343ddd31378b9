"""What each rpc needs, in one table for both servers, and what whoever calls just now may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Permission(StrEnum):
    """What a caller can be allowed to do, as `resource:action`; `resource:*` allows all of a resource."""

    TASKS_CREATE = "tasks:create"
    TASKS_READ = "tasks:read"
    TASKS_LIST = "tasks:list"
    TASKS_CANCEL = "tasks:cancel"
    TASKS_CONTEXT_READ = "tasks:context_read"
    STEPS_READ = "steps:read"
    STEPS_RESOLVE = "steps:resolve"
    DLQ_READ = "dlq:read"
    DLQ_UPDATE = "dlq:update"
    DLQ_STATS = "dlq:stats"
    TEMPLATES_READ = "templates:read"
    TEMPLATES_WRITE = "templates:write"
    TEMPLATES_VALIDATE = "templates:validate"
    SYSTEM_CONFIG_READ = "system:config_read"
    SYSTEM_HANDLERS_READ = "system:handlers_read"  # published and asked for by no rpc
    SYSTEM_ANALYTICS_READ = "system:analytics_read"
    SYSTEM_OPERATE = "system:operate"
    WORKER_CONFIG_READ = "worker:config_read"
    WORKER_TEMPLATES_READ = "worker:templates_read"

    @property
    def wildcard(self) -> str:
        """The grant that allows everything of the same resource."""
        return f"{self.partition(':')[0]}:*"


#: Every text that a credential may grant. A bare `*` is none of them.
VOCABULARY: Final = frozenset(Permission) | frozenset(permission.wildcard for permission in Permission)

#: Who asks these is not asked who they are: they tell how a service is and what it speaks, and nothing of any task.
PUBLIC_SERVICES: Final = frozenset(
    {
        "tasker.v1.HealthService",
        "tasker.v1.WorkerHealthService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)

#: Full name of a service, name of a method, what it needs. Methods that are in no row are denied to everybody.
PERMISSION_OF: Final[Mapping[str, Mapping[str, Permission]]] = {
    "tasker.v1.TaskService": {
        "CreateTask": Permission.TASKS_CREATE,
        "GetTask": Permission.TASKS_READ,
        "ListTasks": Permission.TASKS_LIST,
        "CancelTask": Permission.TASKS_CANCEL,
        "GetTaskContext": Permission.TASKS_CONTEXT_READ,
        "GetTaskSummary": Permission.TASKS_READ,
        "StreamTaskStatus": Permission.TASKS_READ,
    },
    "tasker.v1.StepService": {
        "GetStep": Permission.STEPS_READ,
        "ListSteps": Permission.STEPS_READ,
        "ResolveStep": Permission.STEPS_RESOLVE,
        "GetStepAudit": Permission.STEPS_READ,
    },
    "tasker.v1.TemplateService": {
        "ListTemplates": Permission.TEMPLATES_READ,
        "GetTemplate": Permission.TEMPLATES_READ,
    },
    "tasker.v1.AnalyticsService": {
        "GetPerformanceMetrics": Permission.SYSTEM_ANALYTICS_READ,
        "GetBottleneckAnalysis": Permission.SYSTEM_ANALYTICS_READ,
    },
    "tasker.v1.DlqService": {
        "ListEntries": Permission.DLQ_READ,
        "GetEntryByTask": Permission.DLQ_READ,
        "UpdateInvestigation": Permission.DLQ_UPDATE,
        "GetStats": Permission.DLQ_STATS,
        "GetInvestigationQueue": Permission.DLQ_READ,
        "GetStalenessMonitoring": Permission.DLQ_READ,
    },
    "tasker.v1.ConfigService": {
        "GetConfig": Permission.SYSTEM_CONFIG_READ,
    },
    "tasker.v1.WatchService": {
        "WatchTasks": Permission.TASKS_LIST,
    },
    "tasker.v1.BatchService": {
        "CreateTasks": Permission.TASKS_CREATE,
        "CancelTasks": Permission.TASKS_CANCEL,
        "ResolveSteps": Permission.STEPS_RESOLVE,
    },
    "tasker.v1.TemplateAdminService": {
        "RegisterTemplate": Permission.TEMPLATES_WRITE,
        "ValidateTemplate": Permission.TEMPLATES_VALIDATE,
        "ListVersions": Permission.TEMPLATES_READ,
        "Deactivate": Permission.TEMPLATES_WRITE,
        "Activate": Permission.TEMPLATES_WRITE,
    },
    "tasker.v1.OperationsService": {
        "ListQueues": Permission.SYSTEM_OPERATE,
        "PauseNamespace": Permission.SYSTEM_OPERATE,
        "ResumeNamespace": Permission.SYSTEM_OPERATE,
        "RetryTask": Permission.SYSTEM_OPERATE,
        "ResumeTask": Permission.SYSTEM_OPERATE,
        "RequeueTask": Permission.SYSTEM_OPERATE,
        "SendToDlq": Permission.SYSTEM_OPERATE,
        "ListPoison": Permission.SYSTEM_OPERATE,
        "RequeuePoison": Permission.SYSTEM_OPERATE,
    },
    "tasker.v1.WorkerConfigService": {
        "GetConfig": Permission.WORKER_CONFIG_READ,
    },
    "tasker.v1.WorkerTemplateService": {
        "ListTemplates": Permission.WORKER_TEMPLATES_READ,
        "GetTemplate": Permission.WORKER_TEMPLATES_READ,
    },
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Attributes:
        subject: What the credential calls them: the subject of a token, the name of an API key.
        method: How they proved it; `disabled` if nobody has to, `public` if nobody has to for this rpc.
        permissions: What they were granted, wildcards among it.
        context_is_open: Whether replies show a task's context to whoever may read the task.
    """

    subject: str
    method: Literal["disabled", "public", "jwt", "api_key"]
    permissions: frozenset[str]
    context_is_open: bool = False

    def may(self, permission: Permission | str) -> bool:
        """Return whether they were granted a permission, itself or by the wildcard of its resource."""
        return (
            self.method == "disabled"
            or permission in self.permissions
            or Permission(permission).wildcard in self.permissions
        )

    @property
    def reads_context(self) -> bool:
        """Whether replies to them may hold the context of a task."""
        return self.context_is_open or self.may(Permission.TASKS_CONTEXT_READ)


#: Whoever calls a server that asks nobody.
ANYBODY: Final = Caller("anonymous", "disabled", frozenset())

#: Whoever calls what is open to all on a server that asks everybody else.
NOBODY: Final = Caller("anonymous", "public", frozenset())

_caller: ContextVar[Caller] = ContextVar("tasker_caller", default=ANYBODY)


def caller() -> Caller:
    """Return who makes the call at hand: somebody who may do everything outside of calls and without authentication."""
    return _caller.get()


def set_caller(who: Caller) -> Token[Caller]:
    """Say who makes the call at hand; whatever it does from here on asks `caller()`."""
    return _caller.set(who)


def is_public(method: str) -> bool:
    """Return whether everybody may call a method, named as on the wire: `/package.Service/Method`."""
    return _split(method)[0] in PUBLIC_SERVICES


def permission_of(method: str) -> Permission | None:
    """Return what a method needs, named as on the wire; None if it is in no row, which denies it."""
    service, name = _split(method)
    return PERMISSION_OF.get(service, {}).get(name)


def unknown_permissions(granted: Iterable[str]) -> list[str]:
    """Return what is granted and in no vocabulary, sorted."""
    return sorted(set(granted) - VOCABULARY)


def _split(method: str) -> tuple[str, str]:
    service, _, name = method.removeprefix("/").rpartition("/")
    return service, name
