"""What a command is about, named by its uuid or by the beginning of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import typer

from tasker.client import TaskerClient
from tasker.ctl.failures import CommandError, ExitCode

#: Fewer digits than this say next to nothing: uuids begin with the time.
FEWEST_DIGITS: Final = 4
#: Among how many tasks of the time that a prefix names the one is looked for.
MOST_TASKS: Final = 10_000

_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{1,32}", re.IGNORECASE)
_DIGITS: Final = 32
#: The digits of a UUIDv7 that are the milliseconds since 1970.
_TIME_DIGITS: Final = 12
#: How far the clock that makes uuids may be from the database's.
_SKEW: Final = timedelta(minutes=1)
_PAGE: Final = 1000
#: How many of those that a prefix fits are told.
_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class UuidPrefix:
    """A uuid, or the beginning of one.

    Attributes:
        digits: Its hexadecimal digits, lower case.
    """

    digits: str

    def __str__(self) -> str:
        """Return it as it is written."""
        dashes = sum(len(self.digits) > before for before in (8, 12, 16, 20))
        return _written(self.digits)[: len(self.digits) + dashes]

    @property
    def uuid(self) -> UUID | None:
        """The uuid, if it is a whole one."""
        return UUID(self.digits) if len(self.digits) == _DIGITS else None

    def fits(self, uuid: UUID) -> bool:
        """Return whether a uuid begins so."""
        return uuid.hex.startswith(self.digits)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """When what has such a uuid was made, from the first instant to before the second; None if never."""
        first, last = (
            timedelta(milliseconds=int(self.digits[:_TIME_DIGITS].ljust(_TIME_DIGITS, fill), 16))
            for fill in ("0", "f")
        )
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        try:
            return epoch + first - _SKEW, epoch + last + _SKEW
        except OverflowError:
            return None


def uuid_prefix(text: str) -> UuidPrefix:
    """Return the uuid in a text, or the beginning of one, with its dashes or without any.

    Raises:
        BadParameter: It is something else, or too short.
    """
    given = text.lower()
    digits = given.replace("-", "")
    if not _HEXADECIMAL.fullmatch(digits) or not (given == digits or _written(digits).startswith(given)):
        raise typer.BadParameter(f"{text!r} is no uuid, nor the beginning of one")
    if len(digits) < FEWEST_DIGITS:
        raise typer.BadParameter(f"{text!r} is too short; give at least {FEWEST_DIGITS} digits of the uuid")
    return UuidPrefix(digits)


TaskPrefix = Annotated[
    UuidPrefix,
    typer.Argument(
        parser=uuid_prefix,
        metavar="TASK_UUID",
        help="The task; the beginning of its uuid will do if no other task's begins so.",
        show_default=False,
    ),
]
StepName = Annotated[
    str,
    typer.Argument(
        metavar="STEP", help="The step: its name, its uuid, or the beginning of that.", show_default=False
    ),
]


async def find_task(client: TaskerClient, prefix: UuidPrefix) -> UUID:
    """Return the uuid of the task that a prefix means; a whole uuid is taken as it is.

    Raises:
        CommandError: No task's uuid begins so, or more than one does, or there are too many to look through.
    """
    if (uuid := prefix.uuid) is not None:
        return uuid
    found: list[tuple[UUID, str]] = []
    if (span := prefix.span) is not None:
        seen = 0
        async for task in client.list(
            page_size=_PAGE, created_after=span[0], created_before=span[1], context=False
        ):
            seen += 1
            if seen > MOST_TASKS:
                raise CommandError(
                    f"more than {MOST_TASKS:,} tasks are of the time that {str(prefix)!r} names; give more of the uuid",
                    ExitCode.USAGE,
                )
            if prefix.fits(task.task_uuid):
                found.append((task.task_uuid, f"{task.namespace}/{task.name}, {task.state}"))
    return the_one(prefix, "task", found)


async def find_step(client: TaskerClient, task_uuid: UUID, given: str) -> UUID:
    """Return the uuid of the step that a name means, or the beginning of a uuid; a whole one is taken as it is.

    Raises:
        CommandError: The task has no such step, or more than one.
    """
    try:
        prefix = uuid_prefix(given)
    except typer.BadParameter:
        prefix = None
    if prefix is not None and (uuid := prefix.uuid) is not None:
        return uuid
    steps = await client.steps(task_uuid, results=False)
    for step in steps:
        if step.name == given:
            return step.step_uuid
    if prefix is None:
        known = ", ".join(step.name for step in steps[:_TOLD]) + (", ..." if len(steps) > _TOLD else "")
        raise CommandError(f"the task has no step {given!r}; it has {known}", ExitCode.NOT_FOUND)
    fitting = [(step.step_uuid, step.name) for step in steps if prefix.fits(step.step_uuid)]
    return the_one(prefix, "step", fitting)


def the_one(prefix: UuidPrefix, what: str, found: list[tuple[UUID, str]], *, within: str = "") -> UUID:
    """Return the only one of those that a prefix fits.

    Args:
        prefix: The prefix.
        what: What they are.
        found: Their uuids, and what else to say of each.
        within: Among which ones was looked, if not among all, and what to do about it.

    Raises:
        CommandError: There is none, or more than one.
    """
    if not found:
        raise CommandError(f"no {what}'s uuid begins with {str(prefix)!r}{within}", ExitCode.NOT_FOUND)
    if len(found) > 1:
        told = "; ".join(f"{uuid} ({more})" for uuid, more in found[:_TOLD])
        rest = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise CommandError(
            f"{len(found)} uuids begin with {str(prefix)!r}; give more of the one you mean: {told}{rest}",
            ExitCode.USAGE,
        )
    return found[0][0]


def _written(digits: str) -> str:
    """Return the least uuid that begins with these digits."""
    return str(UUID(digits.ljust(_DIGITS, "0")))
