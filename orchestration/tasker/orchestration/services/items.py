"""Calls about many things at once: what each of them asks for, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from google.rpc import code_pb2

from tasker.domain.errors import InvalidArgumentError, TaskerError
from tasker.persistence.failures import as_unavailable
from tasker.rpc.errors import status_of
from tasker.v1 import batch_pb2

#: The most items of a call.
MAX_ITEMS: Final = 1000

Request = TypeVar("Request")
Wanted = TypeVar("Wanted")


def items(
    field: str, requests: Sequence[Request], read: Callable[[Request], Wanted]
) -> list[Wanted | TaskerError]:
    """Return what each item asks for or, if that cannot be read, why not.

    Raises:
        InvalidArgumentError: There are none, or too many.
    """
    if not 1 <= len(requests) <= MAX_ITEMS:
        raise InvalidArgumentError.of(
            field, f"{len(requests)} items, must be 1 to {MAX_ITEMS}; use several calls"
        )
    return [_readable(read, request) for request in requests]


def status(outcome: object, *, method: str) -> batch_pb2.ItemStatus:
    """Return how one item ended, as a call of its own would have.

    Args:
        outcome: What it came to; an exception if it was refused.
        method: Full name of the rpc, for the log.
    """
    if not isinstance(outcome, Exception):
        return batch_pb2.ItemStatus(code=code_pb2.OK)
    refusal = status_of(as_unavailable(outcome), method=method)
    return batch_pb2.ItemStatus(
        code=refusal.code.value[0], message=refusal.message, reason=refusal.reason, metadata=refusal.facts
    )


def _readable(read: Callable[[Request], Wanted], request: Request) -> Wanted | TaskerError:
    try:
        return read(request)
    except TaskerError as error:
        return error
