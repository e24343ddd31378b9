"""Creating tasks. Concurrent calls share a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tasker.domain.durations import parse_duration
from tasker.domain.errors import (
    FailedPreconditionError,
    FieldViolation,
    IdentityConflictError,
    InvalidArgumentError,
    UnavailableError,
)
from tasker.domain.identity import check_idempotency_key, context_digest, identity_hash
from tasker.domain.states import TaskState
from tasker.domain.storable import text_problem
from tasker.domain.templates.document import StepType
from tasker.domain.uuids import uuid7
from tasker.orchestration.engine.catalogue import RegisteredTemplate, TemplateCatalogue
from tasker.orchestration.engine.group_commit import GroupCommit
from tasker.persistence.failures import is_transient
from tasker.persistence.operations.create import CreatedTask, TaskToCreate, create_tasks
from tasker.persistence.queries import Queries
from tasker.persistence.reading.tasks import TaskReader, TaskRecord
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: The most tasks that share a transaction. What a statement looks at grows with the square of it.
MAX_GROUP: Final = 64

#: The longest text of each field of a request.
_LENGTHS: Final[Mapping[str, int]] = {
    "name": 255,
    "namespace": 255,
    "version": 50,
    "initiator": 255,
    "source_system": 255,
    "reason": 500,
}
#: How many tags a task may have, how long each may be, and how many bytes of UTF-8 all of them.
MAX_TAGS: Final = 100
MAX_TAG_CHARACTERS: Final = 255
MAX_TAGS_BYTES: Final = 8192

_NOTHING_DISABLED: Final[Mapping[StepType, str]] = {}
_NAMES: Final = frozenset({"name", "namespace", "version"})


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a client asks for. `context` None means `{}`, an empty version the highest one."""

    namespace: str
    name: str
    version: str
    context: Mapping[str, Any] | None = None
    correlation_id: UUID | None = None
    parent_correlation_id: UUID | None = None
    initiator: str = "system"
    source_system: str = "tasker-core"
    reason: str = "Task requested"
    priority: int = 0
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """The task that answers a request, and whether it was there already."""

    task: TaskRecord
    already_existed: bool


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A request that was found good, and what to create for it."""

    request: NewTask
    registered: RegisteredTemplate
    context: dict[str, Any]
    task: TaskToCreate

    def equals(self, context: Mapping[str, Any]) -> bool:
        """Tell whether a task of this template with this context is what is wanted."""
        named_task_uuid = self.registered.named_task_uuid
        return context_digest(named_task_uuid, context) == context_digest(named_task_uuid, self.context)

    def conflict(self, existing_uuid: UUID) -> IdentityConflictError:
        """Return the error that a task with its identity, and not the wanted one, is there already."""
        template = self.registered.revision.template
        return IdentityConflictError(
            template.namespace_name,
            template.name,
            template.version,
            idempotency_key=self.request.idempotency_key,
            existing_task_uuid=existing_uuid if self.request.idempotency_key is None else None,
        )


class TaskCreator:
    """Validates requests and creates their tasks, many in one transaction.

    Args:
        catalogue: The templates.
        queries: Where tasks are created.
        reader: Reads what an idempotency key stands for.
        environment: Whose plans of the templates apply.
        disabled: Types of steps that this orchestrator does not run, with the name of what is disabled.
    """

    def __init__(
        self,
        catalogue: TemplateCatalogue,
        queries: Queries,
        reader: TaskReader,
        *,
        environment: str,
        disabled: Mapping[StepType, str] = _NOTHING_DISABLED,
    ) -> None:
        self._catalogue = catalogue
        self._queries = queries
        self._reader = reader
        self._environment = environment
        self._disabled = disabled
        self._groups = GroupCommit[TaskToCreate, CreatedTask](self.create_group, max_size=MAX_GROUP)

    async def start(self) -> None:
        """Begin to accept requests."""
        await self._groups.start()

    async def stop(self) -> None:
        """Finish the requests at hand."""
        await self._groups.stop()

    async def create(self, request: NewTask) -> Creation:
        """Create a task, or return the one that an equal request with the same idempotency key created.

        Raises:
            InvalidArgumentError: With everything wrong about the request; nothing was written.
            FailedPreconditionError: The template has steps of a type that is disabled here.
            IdentityConflictError: An equal task exists, or the key was used with another context.
            TemplateDeactivatedError: An operator has taken the version out of use.
            UnavailableError: The database cannot take it now.
        """
        while True:
            prepared = await self.prepare(request)
            created = await self._groups.submit(prepared.task)
            if not created.is_of_no_use:
                return await self.answer(prepared, created)
            # Taken out of use meanwhile: the next look says so, or finds the version that took its place.
            self.forget_templates()

    def forget_templates(self) -> None:
        """Look templates up anew: what was read of them does not hold any more."""
        self._catalogue.forget()

    async def prepare(self, request: NewTask) -> PreparedTask:
        """Return what to create for a request. Raises as `create` does; nothing is written."""
        if problems := problems_of(request):
            raise InvalidArgumentError(problems)
        registered = await self._catalogue.get(request.namespace, request.name, request.version)
        self._refuse_disabled(registered)
        checked = registered.context_rules.prepare(request.context)
        if checked.warnings:
            log.warning(
                "context_breaks_schema",
                template=registered.revision.template.key,
                fields=[violation.field for violation in checked.warnings],
            )
        task = self._to_create(request, registered, checked.context, checked.text)
        return PreparedTask(request, registered, checked.context, task)

    async def answer(self, prepared: PreparedTask, created: CreatedTask) -> Creation:
        """Return the task that was created, or the one that is there already.

        Raises:
            IdentityConflictError: That one is another than what is wanted.
        """
        if created.existing_uuid is None:
            return Creation(_new_record(prepared, created), already_existed=False)
        existing = None
        if prepared.request.idempotency_key is not None:
            existing = await self._reader.get(created.existing_uuid)
        if existing is None or not prepared.equals(existing.context):
            raise prepared.conflict(created.existing_uuid)
        return Creation(existing, already_existed=True)

    def _to_create(
        self, request: NewTask, registered: RegisteredTemplate, context: dict[str, Any], text: str
    ) -> TaskToCreate:
        task_uuid = uuid7()
        return TaskToCreate(
            task_uuid=task_uuid,
            namespace_id=registered.namespace_id,
            named_task_uuid=registered.named_task_uuid,
            template_digest=registered.revision.digest,
            identity=identity_hash(
                registered.revision.template.identity_strategy,
                task_uuid=task_uuid,
                named_task_uuid=registered.named_task_uuid,
                context=context,
                idempotency_key=request.idempotency_key,
            ),
            priority=request.priority,
            correlation_id=request.correlation_id or uuid7(),
            parent_correlation_id=request.parent_correlation_id,
            initiator=request.initiator,
            source_system=request.source_system,
            reason=request.reason,
            tags=request.tags,
            context=text,
            step_uuids=tuple(uuid7() for _ in registered.revision.steps),
            ttl=parse_duration(ttl) if (ttl := registered.revision.template.ttl) else None,
        )

    def _refuse_disabled(self, registered: RegisteredTemplate) -> None:
        for step_type, what in self._disabled.items():
            if any(step.step_type is step_type for step in registered.revision.steps.values()):
                raise FailedPreconditionError(
                    f"template '{registered.revision.template.key}' contains {step_type} steps but {what} is disabled"
                )

    async def create_group(self, tasks: Sequence[TaskToCreate]) -> Sequence[CreatedTask | BaseException]:
        """Create up to `MAX_GROUP` tasks in one transaction; return what became of each, in order.

        Raises:
            UnavailableError: The database cannot take them now.
        """
        try:
            created = await create_tasks(self._queries, self._environment, tasks)
        except Exception as error:
            if is_transient(error):
                raise UnavailableError("the database does not answer", retry_after_seconds=1) from error
            if len(tasks) == 1:
                raise
            # One of them spoils the transaction: each gets one of its own.
            return [await self._create_alone(task) for task in tasks]
        return [created[task.task_uuid] for task in tasks]

    async def _create_alone(self, task: TaskToCreate) -> CreatedTask | BaseException:
        try:
            (created,) = await self.create_group([task])
        except Exception as error:
            return error
        return created


def problems_of(request: NewTask) -> list[FieldViolation]:
    """Return what is wrong with a request whatever its template is."""
    problems = []
    for field, longest in _LENGTHS.items():
        value: str = getattr(request, field)
        if not value and field != "version":
            problems.append(FieldViolation(field, "required"))
        elif (problem := text_problem(value, longest)) is not None:
            problems.append(FieldViolation(field, problem))
        elif field in _NAMES and not value.isprintable():  # they are repeated in messages and logs
            problems.append(FieldViolation(field, "must not hold control characters"))
    if not -100 <= request.priority <= 100:
        problems.append(FieldViolation("priority", f"{request.priority} not in -100..100"))
    problems.extend(_tag_problems(request.tags))
    if request.idempotency_key is not None:
        try:
            check_idempotency_key(request.idempotency_key)
        except InvalidArgumentError as error:
            problems.extend(error.violations)
    return problems


def _tag_problems(tags: Sequence[str]) -> Iterator[FieldViolation]:
    """Yield what is wrong with tags: they come with every reply about their task, contexts left out or not."""
    if len(tags) > MAX_TAGS:
        yield FieldViolation("tags", f"are {len(tags)}, maximum {MAX_TAGS}")
        return
    for index, tag in enumerate(tags):
        if not 1 <= len(tag) <= MAX_TAG_CHARACTERS or "\x00" in tag:
            yield FieldViolation(
                f"tags[{index}]", f"must be 1 to {MAX_TAG_CHARACTERS} characters without NUL"
            )
    if (size := sum(len(tag.encode()) for tag in tags)) > MAX_TAGS_BYTES:
        yield FieldViolation("tags", f"have {size} bytes together, maximum {MAX_TAGS_BYTES}")


def _new_record(prepared: PreparedTask, created: CreatedTask) -> TaskRecord:
    """Return the task as its creation left it; by the time it is read a worker may have gone on."""
    task = prepared.task
    revision = prepared.registered.revision
    template = revision.template
    initial = [step for step in revision.steps.values() if step.initial]
    roots = sum(not step.parent_positions for step in initial)
    assert created.created_at is not None
    assert created.updated_at is not None
    return TaskRecord(
        task_uuid=task.task_uuid,
        namespace=template.namespace_name,
        name=template.name,
        version=template.version,
        state=TaskState.STEPS_IN_PROCESS,
        priority=task.priority,
        correlation_id=task.correlation_id,
        parent_correlation_id=task.parent_correlation_id,
        initiator=task.initiator,
        source_system=task.source_system,
        reason=task.reason,
        tags=list(task.tags),
        context=prepared.context,
        created_at=created.created_at,
        updated_at=created.updated_at,
        completed_at=None,
        total_steps=len(initial),
        satisfied_steps=0,
        failed_steps=0,
        in_flight_steps=roots,
        backoff_steps=0,
        pending_steps=len(initial) - roots,
        in_progress_steps=0,
        ready_steps=0,
    )
