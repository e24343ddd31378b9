"""What every command that changes something shares: who acts and why, and acting on many tasks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from getpass import getuser
from typing import Annotated, Final, Generic, Self, TypeVar
from uuid import UUID

import typer
from rich.text import Text

from tasker.client import Task, TaskerClient, TaskQuery
from tasker.ctl import task_views
from tasker.ctl.call_failures import call_failure
from tasker.ctl.event_loop import run
from tasker.ctl.failures import CommandError, ExitCode, Failure
from tasker.ctl.filters import TaskFilters
from tasker.ctl.output import Output, shown
from tasker.ctl.prefixes import UuidPrefix, find_task, uuid_prefix
from tasker.ctl.remote import Service

Answer = TypeVar("Answer")

#: How many tasks are acted on at once, and how many of those that match are shown beforehand.
_AT_ONCE: Final = 8
_SHOWN: Final = 20
_PAGE: Final = 1000

TaskPrefixes = Annotated[
    list[UuidPrefix] | None,
    typer.Argument(
        parser=uuid_prefix,
        metavar="TASK_UUID",
        help="The tasks, by their uuids or the beginnings of them; else those that the filters match.",
        show_default=False,
    ),
]
Agreed = Annotated[
    bool, typer.Option("--yes", help="Act on all that match; without it, only say which ones do.")
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, and why; kept with the change.

    Attributes:
        name: Who.
        reason: Why.
    """

    name: str
    reason: str

    @classmethod
    def from_options(
        cls,
        reason: Annotated[
            str, typer.Option(metavar="TEXT", help="Why; kept with the change.", show_default=False)
        ],
        by: Annotated[
            str | None, typer.Option(metavar="NAME", help="Who acts; the name of your login by default.")
        ] = None,
    ) -> Self:
        """Return who the options of a command name."""
        return cls(by or login(), reason)


def login() -> str:
    """Return the name of whoever is logged in."""
    try:
        return getuser()
    except (KeyError, OSError):  # nobody has given this user a name
        return f"uid {os.getuid()}"


@dataclass(frozen=True, slots=True)
class Action(Generic[Answer]):
    """What is done to tasks, one by one.

    Attributes:
        verb: What it is, as in "to cancel".
        do: Does it to one task.
        say: Says in a line what came of it.
        succeeded: Whether that is what was wanted.
    """

    verb: str
    do: Callable[[TaskerClient, UUID], Awaitable[Answer]]
    say: Callable[[Answer], Text]
    succeeded: Callable[[Answer], bool] = lambda _: True


def act(
    action: Action[Answer],
    named: Sequence[UuidPrefix] | None,
    filters: TaskFilters,
    *,
    agreed: bool,
    service: Service,
) -> ExitCode:
    """Do something to the tasks that are named, or to all that match.

    Returns:
        Whether it was done to each of them. What one task refuses does not keep it from the others.

    Raises:
        BadParameter: Neither or both were given.
        CommandError: A name means no task, or nobody agreed to act on those that match.
        TaskerClientError: Only one task was named, and it refused; or the service cannot be asked.
    """
    if bool(named) == bool(filters.query):
        raise typer.BadParameter(
            f"name the tasks to {action.verb}, or say with --failed, --state, --namespace or another filter which "
            "ones; not both",
            param_hint="TASK_UUID",
        )

    async def work() -> ExitCode:
        async with service.connected() as client:
            if named:
                with service.busy():
                    uuids = [await find_task(client, one) for one in named]
                if len(uuids) == 1:
                    answer = await action.do(client, uuids[0])
                    service.output.show(answer, action.say)
                    return ExitCode.CLEAN if action.succeeded(answer) else ExitCode.FAILURE
            else:
                query: TaskQuery = filters.query | {"context": False}
                with service.busy():
                    tasks = [task async for task in client.list(page_size=_PAGE, **query)]
                uuids = [task.task_uuid for task in tasks]
                _announce(action.verb, tasks, service, agreed=agreed)
            return await _each(action, client, uuids, service)

    return run(work())


def _announce(verb: str, tasks: Sequence[Task], service: Service, *, agreed: bool) -> None:
    """Say how many tasks match; go no further unless somebody agreed to act on all of them."""
    count = f"{len(tasks):,} {'task' if len(tasks) == 1 else 'tasks'}"
    if not agreed and tasks:
        if not service.output.as_json:
            service.output.say(task_views.task_table(tasks[:_SHOWN]))
        raise CommandError(
            f"{count} to {verb}; nothing was done: repeat the command with --yes", ExitCode.USAGE
        )
    service.output.errors.print(f"{count} to {verb}.", style="dim")


async def _each(
    action: Action[Answer], client: TaskerClient, uuids: Sequence[UUID], service: Service
) -> ExitCode:
    """Do something to each task; say of each what came of it, in their order."""
    clean = True
    for first in range(0, len(uuids), _AT_ONCE):
        some = uuids[first : first + _AT_ONCE]
        answers = await asyncio.gather(*(action.do(client, uuid) for uuid in some), return_exceptions=True)
        for uuid, answer in zip(some, answers, strict=True):
            if isinstance(answer, BaseException):
                clean = False
                _tell(uuid, _refusal(answer), service.output)
            else:
                clean = clean and action.succeeded(answer)
                service.output.show(answer, action.say)
    return ExitCode.CLEAN if clean else ExitCode.FAILURE


def _refusal(error: BaseException) -> Failure:
    """Return what keeps one task from what is to be done; raise what keeps all from it."""
    failure = call_failure(error)
    if failure is None or failure.exit_code in (ExitCode.AUTH, ExitCode.UNAVAILABLE):
        raise error
    return failure


def _tell(uuid: UUID, failure: Failure, output: Output) -> None:
    if output.as_json:
        output.write({"task_uuid": uuid, "error": failure.facts})
    else:
        output.say(shown(f"Task {uuid}: {failure.line}", "red"))
