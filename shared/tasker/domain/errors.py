"""Every error a caller can meet, with its facts as attributes (one place turns them into gRPC statuses)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final
from uuid import UUID

_NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field of a request; `field` is a path such as `context.items[2].sku`."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class TaskerError(Exception):
    """The root of every error raised on purpose.

    Attributes:
        reason: Stable SCREAMING_SNAKE identifier, sent as `google.rpc.ErrorInfo.reason`.
    """

    reason: ClassVar[str] = "TASKER_ERROR"

    @property
    def metadata(self) -> Mapping[str, str]:
        """The facts of the error as strings, sent as `google.rpc.ErrorInfo.metadata`."""
        return _NO_FACTS


# --- The request is wrong whatever the state of the system -------------------------------------------------


class InvalidArgumentError(TaskerError):
    """The request can never succeed as it is; `violations` lists everything wrong with it."""

    reason: ClassVar[str] = "INVALID_ARGUMENT"

    def __init__(self, violations: Iterable[FieldViolation] = (), *, message: str | None = None) -> None:
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        super().__init__(message or "; ".join(map(str, self.violations)) or "the request is not valid")

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgumentError:
        """Return the error for a single field."""
        return InvalidArgumentError((FieldViolation(field, description),))


class UnknownTemplateError(InvalidArgumentError):
    """A task is to be created of an unknown template: INVALID_ARGUMENT."""

    reason: ClassVar[str] = "TEMPLATE_NOT_FOUND"

    def __init__(self, namespace: str, name: str, version: str, known_versions: Sequence[str] = ()) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.known_versions = tuple(known_versions)
        message = _template_not_found(namespace, name, version, self.known_versions)
        super().__init__((FieldViolation("version" if known_versions else "name", message),), message=message)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The triple asked for and the versions there are."""
        return _template_facts(self.namespace, self.name, self.version, self.known_versions)


# --- The thing named does not exist ------------------------------------------------------------------------


class NotFoundError(TaskerError):
    """The request names something that does not exist."""

    reason: ClassVar[str] = "NOT_FOUND"


class TaskNotFoundError(NotFoundError):
    """No task has this uuid."""

    reason: ClassVar[str] = "TASK_NOT_FOUND"

    def __init__(self, task_uuid: UUID) -> None:
        self.task_uuid = task_uuid
        super().__init__(
            f"task {task_uuid} does not exist; it may have been removed after its retention time"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The uuid asked for."""
        return {"task_uuid": str(self.task_uuid)}


class StepNotFoundError(NotFoundError):
    """No step has this uuid."""

    reason: ClassVar[str] = "STEP_NOT_FOUND"

    def __init__(self, step_uuid: UUID, task_uuid: UUID | None = None) -> None:
        self.step_uuid = step_uuid
        self.task_uuid = task_uuid
        of_task = f" of task {task_uuid}" if task_uuid is not None else ""
        super().__init__(
            f"step {step_uuid}{of_task} does not exist; list the steps of the task to see its uuids"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The uuids asked for."""
        facts = {"step_uuid": str(self.step_uuid)}
        return facts if self.task_uuid is None else facts | {"task_uuid": str(self.task_uuid)}


class TemplateNotFoundError(NotFoundError):
    """An unknown template was asked for: NOT_FOUND. At CreateTask it is `UnknownTemplateError`."""

    reason: ClassVar[str] = "TEMPLATE_NOT_FOUND"

    def __init__(self, namespace: str, name: str, version: str, known_versions: Sequence[str] = ()) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.known_versions = tuple(known_versions)
        super().__init__(_template_not_found(namespace, name, version, self.known_versions))

    @property
    def metadata(self) -> Mapping[str, str]:
        """The triple asked for and the versions there are."""
        return _template_facts(self.namespace, self.name, self.version, self.known_versions)


class DlqEntryNotFoundError(NotFoundError):
    """No DLQ entry answers to this uuid, of an entry or of a task."""

    reason: ClassVar[str] = "DLQ_ENTRY_NOT_FOUND"

    def __init__(self, *, dlq_entry_uuid: UUID | None = None, task_uuid: UUID | None = None) -> None:
        self.dlq_entry_uuid = dlq_entry_uuid
        self.task_uuid = task_uuid
        which = f"DLQ entry {dlq_entry_uuid}" if dlq_entry_uuid else f"DLQ entry of task {task_uuid}"
        super().__init__(f"{which} does not exist")

    @property
    def metadata(self) -> Mapping[str, str]:
        """The uuid asked for."""
        asked = {"dlq_entry_uuid": self.dlq_entry_uuid, "task_uuid": self.task_uuid}
        return {key: str(value) for key, value in asked.items() if value is not None}


# --- The system is not in a state for it -------------------------------------------------------------------


class AlreadyExistsError(TaskerError):
    """The thing to create is there already."""

    reason: ClassVar[str] = "ALREADY_EXISTS"


class IdentityConflictError(AlreadyExistsError):
    """An earlier task has the same identity.

    Args:
        namespace, name, version: The template of both.
        idempotency_key: That of the request, if it had one.
        existing_task_uuid: The earlier task; None where the caller is not to know it.
    """

    reason: ClassVar[str] = "IDENTITY_CONFLICT"

    def __init__(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        idempotency_key: str | None = None,
        existing_task_uuid: UUID | None = None,
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.idempotency_key = idempotency_key
        self.existing_task_uuid = existing_task_uuid
        template = f"{namespace}/{name}:{version}"
        if idempotency_key is None:
            which = f": {existing_task_uuid}" if existing_task_uuid else ""
            what = f"a task of {template} with an equal context exists already{which}"
            remedy = (
                f"{'read or watch that one, or ' if existing_task_uuid else ''}pass an idempotency_key to make another "
                "one, or put what tells the two apart (a date, an id) into the context"
            )
        else:
            what = f"a task of {template} with idempotency_key '{idempotency_key}' has another context"
            remedy = "repeat the first request unchanged, or use another key"
        super().__init__(f"{what}; {remedy}")

    def without_task(self) -> IdentityConflictError:
        """Return the same for somebody who is not to know the earlier task."""
        return IdentityConflictError(
            self.namespace, self.name, self.version, idempotency_key=self.idempotency_key
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The template of the task, and the earlier one as `task_uuid` if the caller may know it."""
        facts = {"namespace": self.namespace, "name": self.name, "version": self.version}
        earlier = self.existing_task_uuid
        return facts if earlier is None else facts | {"task_uuid": str(earlier)}


class FailedPreconditionError(TaskerError):
    """The request is well formed, but the system has to change before it can succeed."""

    reason: ClassVar[str] = "FAILED_PRECONDITION"


class TemplateInUseError(FailedPreconditionError):
    """A registered template would change while tasks of that version still run."""

    reason: ClassVar[str] = "TEMPLATE_IN_USE"

    def __init__(self, namespace: str, name: str, version: str, running_tasks: int) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.running_tasks = running_tasks
        super().__init__(
            f"template {namespace}/{name}:{version} differs from the registered one, which is still in use (unfinished "
            f"tasks: {running_tasks}); register the change under a new version, or wait until they are done"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The triple and how many tasks hold it."""
        facts = {"namespace": self.namespace, "name": self.name, "version": self.version}
        return facts | {"running_tasks": str(self.running_tasks)}


class InvalidTransitionError(TaskerError):
    """The state machine has no edge for this event.

    Attributes:
        entity: What should have taken it.
        state: Where that is.
        event: The event.
        possible: The events that it may take there.
    """

    reason: ClassVar[str] = "TRANSITION_NOT_ALLOWED"

    def __init__(
        self, entity: str, state: str, event: str, possible: Sequence[str] = (), *, said: str = ""
    ) -> None:
        """Refuse an event; `said` tells whoever asked for it what cannot be done, why, and what to do instead."""
        self.entity = entity
        self.state = state
        self.event = event
        self.possible = tuple(possible)
        options = f"possible: {', '.join(possible)}" if possible else "it is final"
        super().__init__(said or f"{entity} in state '{state}' cannot take event '{event}'; {options}")

    @property
    def metadata(self) -> Mapping[str, str]:
        """The pair that was refused."""
        return {"entity": self.entity, "state": self.state, "event": self.event}


class InvalidTaskTransitionError(InvalidTransitionError):
    """A task cannot take this event in its state."""

    reason: ClassVar[str] = "TASK_TRANSITION_NOT_ALLOWED"


class InvalidStepTransitionError(InvalidTransitionError):
    """A step cannot take this event in its state."""

    reason: ClassVar[str] = "STEP_TRANSITION_NOT_ALLOWED"


class DlqEntryClosedError(InvalidTransitionError):
    """A DLQ entry that has left `pending` stays as it is; its task may get another one."""

    reason: ClassVar[str] = "DLQ_ENTRY_CLOSED"

    def __init__(self, dlq_entry_uuid: UUID, status: str) -> None:
        super().__init__(
            f"DLQ entry {dlq_entry_uuid}",
            status,
            "update",
            said=f"DLQ entry {dlq_entry_uuid} cannot be changed: it is closed as {status}; make a new one for its task",
        )


class GuardFailedError(TaskerError):
    """The machine has the edge, but its condition does not hold."""

    reason: ClassVar[str] = "GUARD_FAILED"

    def __init__(self, entity: str, state: str, event: str, condition: str, *, done: str) -> None:
        """Refuse an event, in words by what should have been `done`: "retried"."""
        self.entity = entity
        self.state = state
        self.event = event
        self.condition = condition
        super().__init__(f"the {entity} cannot be {done}: {condition}")

    @property
    def metadata(self) -> Mapping[str, str]:
        """The pair and the condition that failed."""
        return {"entity": self.entity, "state": self.state, "event": self.event, "condition": self.condition}


class ConcurrentChangeError(TaskerError):
    """Somebody else changed the thing since the caller read it; reading again and repeating may succeed."""

    reason: ClassVar[str] = "CONCURRENT_CHANGE"


class AbandonedError(TaskerError):
    """One of several things to be done all or none was refused, so that this one was not done, either."""

    reason: ClassVar[str] = "ABANDONED"

    def __init__(self, refused_index: int) -> None:
        self.refused_index = refused_index
        super().__init__(
            f"not done, since item {refused_index} was refused; mend that or leave it out, and repeat"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """Which item was refused, from 0; if several were, the first one."""
        return {"refused_index": str(self.refused_index)}


class UnavailableError(TaskerError):
    """The service cannot take the request now; the same request may succeed later."""

    reason: ClassVar[str] = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{message}; retry in {retry_after_seconds} s")

    @property
    def metadata(self) -> Mapping[str, str]:
        """When to try again."""
        return {"retry_after_seconds": str(self.retry_after_seconds)}


# --- A limit is reached -------------------------------------------------------------------------------------


class ResourceExhaustedError(TaskerError):
    """A limit is reached; the message says which, and what to do instead."""

    reason: ClassVar[str] = "RESOURCE_EXHAUSTED"


class TooManyStreamsError(ResourceExhaustedError):
    """A connection, or the process, has as many streams open as it may."""

    reason: ClassVar[str] = "TOO_MANY_STREAMS"

    def __init__(self, message: str, *, limit: int) -> None:
        self.limit = limit
        super().__init__(message)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The limit."""
        return {"limit": str(self.limit)}


class SlowWatcherError(ResourceExhaustedError):
    """A watcher did not take what was ready for it; nothing is lost to one that goes on with its cursor."""

    reason: ClassVar[str] = "SLOW_WATCHER"

    def __init__(self, cursor: str, *, seconds: float) -> None:
        self.cursor = cursor
        super().__init__(
            f"the watcher took no update for {seconds:g} s while more were ready; read faster, and give the cursor of "
            f"the last update as resume_cursor to go on behind it: {cursor}"
        )


class TooManyWatchedTasksError(ResourceExhaustedError):
    """A watch of many tasks matches more open ones than it can show the steps of."""

    reason: ClassVar[str] = "TOO_MANY_WATCHED_TASKS"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"more than {limit} open tasks match, and the steps of no more can be watched with one stream; narrow the "
            "filter, or leave include_steps out"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The limit."""
        return {"limit": str(self.limit)}


# --- The caller may not ------------------------------------------------------------------------------------


class UnauthenticatedError(TaskerError):
    """The caller did not prove who it is."""

    reason: ClassVar[str] = "UNAUTHENTICATED"


class PermissionDeniedError(TaskerError):
    """The caller is known and lacks a permission; or calls what no permission allows, as a mistyped method is."""

    reason: ClassVar[str] = "PERMISSION_DENIED"

    def __init__(self, permission: str, *, subject: str | None = None, message: str | None = None) -> None:
        self.permission = permission
        self.subject = subject
        who = f"'{subject}'" if subject else "the caller"
        super().__init__(
            message or f"{who} lacks the permission '{permission}'; ask for a token or key that carries it"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The permission that is missing."""
        return {"permission": self.permission}


def _template_not_found(namespace: str, name: str, version: str, known: Sequence[str]) -> str:
    if known:
        versions = ", ".join(known)
        return f"template {namespace}/{name}:{version} is not registered; known versions: {versions}"
    return (
        f"no template {namespace}/{name} is registered; check the spelling, or start a worker that has it in its "
        "template directory"
    )


def _template_facts(namespace: str, name: str, version: str, known: Sequence[str]) -> Mapping[str, str]:
    facts = {"namespace": namespace, "name": name, "version": version}
    return facts | {"known_versions": ",".join(known)}
