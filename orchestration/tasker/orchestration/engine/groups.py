"""Many tasks or steps with one call: each by itself, or all or none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar
from uuid import UUID

from tasker.domain.errors import (
    AbandonedError,
    TaskerError,
    TaskNotFoundError,
    UnknownTemplateError,
)
from tasker.domain.templates.versions import TemplateDeactivatedError
from tasker.orchestration.engine.creation import MAX_GROUP, Creation, NewTask, PreparedTask, TaskCreator
from tasker.orchestration.engine.operators import Cancellation, Operators
from tasker.persistence.failures import without_conflict
from tasker.persistence.operations.create import CreatedTask, create_tasks
from tasker.persistence.sessions import Sessions

Item = TypeVar("Item")
Returned = TypeVar("Returned")
#: What became of each item by its place: what it came to, or why it was refused.
Outcomes: TypeAlias = dict[int, Returned | Exception]

#: However many calls come at once, so many are at work; what else operators want shall find a connection.
_MOST_AT_ONCE: Final = 2
#: Tasks that are cancelled in one transaction: whoever waits for one of them waits for all.
_CANCEL_GROUP: Final = 100


class StepAction(Protocol):
    """What an operator wants done to a step."""

    @property
    def task_uuid(self) -> UUID:
        """The step's task."""

    async def carry_out(self, operators: Operators) -> None:
        """Do it."""


class Groups:
    """Creates, cancels and mends many with one call; what cannot be read comes as the error that it is.

    Where all or none are wanted, one that is refused takes the others with it: they are an AbandonedError then.
    """

    def __init__(
        self, creator: TaskCreator, operators: Operators, sessions: Sessions, *, environment: str
    ) -> None:
        self._creator = creator
        self._operators = operators
        self._sessions = sessions
        self._environment = environment
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)

    async def create(
        self, requests: Sequence[NewTask | TaskerError], *, all_or_nothing: bool = False
    ) -> list[Creation | Exception]:
        """Create tasks; return what each came to, in order. Of equal ones the first is created."""
        async with self._room:
            if all_or_nothing:
                return await self._create_all(requests)
            prepared, refused = await self._prepare(requests)
            for group in _groups(prepared.items(), MAX_GROUP):
                created = await self._create_group([task for _, task in group])
                refused |= {place: outcome for (place, _), outcome in zip(group, created, strict=True)}
            return _in_order(refused)

    async def cancel(
        self,
        task_uuids: Sequence[UUID | TaskerError],
        *,
        reason: str | None = None,
        requested_by: str | None = None,
        all_or_nothing: bool = False,
    ) -> list[Cancellation | Exception]:
        """Cancel tasks; return what each came to, in order. One that is over already is not refused.

        Raises:
            InvalidArgumentError: A text is too long.
        """
        async with self._room:
            given, refused = _split(task_uuids)
            outcomes: Outcomes[Cancellation] = dict(refused)
            if all_or_nothing and refused:
                return _abandon(len(task_uuids), refused)
            wanted = dict.fromkeys(given.values())  # each once
            size = max(1, len(wanted)) if all_or_nothing else _CANCEL_GROUP
            cancelled: dict[UUID, Cancellation] = {}
            for group in _groups(wanted, size):
                cancelled |= await self._operators.cancel_together(
                    group, reason=reason, requested_by=requested_by, all_or_nothing=all_or_nothing
                )
            for place, task_uuid in given.items():
                outcomes[place] = cancelled.get(task_uuid) or TaskNotFoundError(task_uuid)
            if all_or_nothing and _refused(outcomes):
                return _abandon(len(task_uuids), _refused(outcomes))
            return _in_order(outcomes)

    async def act(
        self, actions: Sequence[StepAction | TaskerError], *, all_or_nothing: bool = False
    ) -> list[Exception | None]:
        """Act on steps, one after the other; return None for each action that was taken, or why it was not."""
        async with self._room:
            given, refused = _split(actions)
            if all_or_nothing:
                refused = refused or await self._act_together(given)
                return _abandon(len(actions), refused) if refused else [None] * len(actions)
            outcomes: Outcomes[None] = dict(refused)
            for place, action in given.items():
                outcomes[place] = None
                try:
                    await action.carry_out(self._operators)
                except Exception as error:
                    outcomes[place] = error
            return _in_order(outcomes)

    async def _act_together(self, actions: Mapping[int, StepAction]) -> dict[int, TaskerError]:
        """Take all actions in one transaction; return the first that is refused, and then none is taken."""

        async def act() -> dict[int, TaskerError]:
            task_uuids = [action.task_uuid for action in actions.values()]
            try:
                async with self._operators.together(task_uuids) as operators:
                    for place, action in actions.items():
                        try:
                            await action.carry_out(operators)
                        except TaskerError as error:
                            raise _RollBackError(place, error) from error
            except _RollBackError as rolled_back:
                return dict([rolled_back.args])
            return {}

        return await without_conflict(act)

    async def _prepare(
        self, requests: Sequence[NewTask | TaskerError]
    ) -> tuple[dict[int, PreparedTask], Outcomes[Creation]]:
        """Return what to create, by place, and what is refused."""
        given, refused = _split(requests)
        outcomes: Outcomes[Creation] = dict(refused)
        prepared: dict[int, PreparedTask] = {}
        # Many may name one template that is of no use: it is looked up once.
        useless: dict[tuple[str, str, str], TaskerError] = {}
        for place, request in given.items():
            key = (request.namespace, request.name, request.version)
            if key in useless:
                outcomes[place] = useless[key]
                continue
            try:
                prepared[place] = await self._creator.prepare(request)
            except (UnknownTemplateError, TemplateDeactivatedError) as error:
                outcomes[place] = useless[key] = error
            except Exception as error:
                outcomes[place] = error
            if place % MAX_GROUP == 0:
                await asyncio.sleep(0)  # others want the event loop, too
        return prepared, outcomes

    async def _create_group(self, group: Sequence[PreparedTask]) -> list[Creation | Exception]:
        try:
            created = await self._creator.create_group([prepared.task for prepared in group])
        except TaskerError as error:
            return [error] * len(group)
        return [await self._answer(*pair) for pair in zip(group, created, strict=True)]

    async def _answer(
        self, prepared: PreparedTask, created: CreatedTask | BaseException
    ) -> Creation | Exception:
        try:
            if isinstance(created, BaseException):
                raise created
            if created.is_of_no_use:
                return await self._creator.create(prepared.request)
            return await self._creator.answer(prepared, created)
        except Exception as error:
            return error

    async def _create_all(self, requests: Sequence[NewTask | TaskerError]) -> list[Creation | Exception]:
        while True:
            prepared, outcomes = await self._prepare(requests)
            if not outcomes:
                created = await self._create_in_one_transaction(list(prepared.values()))
                if created is None:
                    continue  # a version was taken out of use meanwhile: the next look says so
                outcomes = dict(enumerate(created))
            refused = _refused(outcomes)
            return _abandon(len(requests), refused) if refused else _in_order(outcomes)

    async def _create_in_one_transaction(
        self, prepared: Sequence[PreparedTask]
    ) -> list[Creation | Exception] | None:
        """Create all tasks, or none if one is refused; None if one is of no use any more."""
        # In the order in which a statement takes their identities: two calls that share some wait, and never deadlock.
        tasks = sorted(
            (each.task for each in prepared), key=lambda task: (task.identity or b"", task.task_uuid)
        )
        ours = {each.task.task_uuid: each for each in prepared}

        async def create() -> list[Creation | Exception] | None:
            outcomes: list[Creation | Exception] | None = None
            try:
                async with self._sessions.transaction() as transaction:
                    created: dict[UUID, CreatedTask] = {}
                    for group in _groups(tasks, MAX_GROUP):
                        created |= await create_tasks(transaction, self._environment, group)
                    if any(task.is_of_no_use for task in created.values()):
                        raise _RollBackError
                    outcomes = [await self._answer_among(ours, created, each) for each in prepared]
                    if any(isinstance(outcome, Exception) for outcome in outcomes):
                        raise _RollBackError
            except _RollBackError:
                pass
            return outcomes

        outcomes = await without_conflict(create)
        if outcomes is None:
            self._creator.forget_templates()
        return outcomes

    async def _answer_among(
        self, ours: Mapping[UUID, PreparedTask], created: Mapping[UUID, CreatedTask], prepared: PreparedTask
    ) -> Creation | Exception:
        """Answer a request before what was created with it is committed."""
        existing_uuid = created[prepared.task.task_uuid].existing_uuid
        if existing_uuid is None or existing_uuid not in ours:
            return await self._answer(prepared, created[prepared.task.task_uuid])
        twin = ours[existing_uuid]
        if prepared.request.idempotency_key is None or not prepared.equals(twin.context):
            return prepared.conflict(existing_uuid)
        first = await self._creator.answer(twin, created[existing_uuid])
        return Creation(first.task, already_existed=True)


class _RollBackError(Exception):
    """Ends a transaction of which nothing shall stay."""


def _split(items: Sequence[Item | TaskerError]) -> tuple[dict[int, Item], dict[int, TaskerError]]:
    """Return what was given, by place, and what could not be read."""
    given: dict[int, Item] = {}
    refused: dict[int, TaskerError] = {}
    for place, item in enumerate(items):
        if isinstance(item, TaskerError):
            refused[place] = item
        else:
            given[place] = item
    return given, refused


def _groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = list(items)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]


def _refused(outcomes: Mapping[int, Returned | Exception]) -> dict[int, Exception]:
    return {place: outcome for place, outcome in outcomes.items() if isinstance(outcome, Exception)}


def _abandon(count: int, refused: Mapping[int, Exception]) -> list[Any]:
    """Return what was refused, and for all the others that they were not done because of it."""
    first = min(refused)
    return [refused.get(place) or AbandonedError(first) for place in range(count)]


def _in_order(outcomes: Mapping[int, Returned | Exception]) -> list[Returned | Exception]:
    return [outcomes[place] for place in sorted(outcomes)]
