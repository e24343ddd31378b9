"""Failures of the database: which of them to wait out, which to try again at once, what to tell callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

import psycopg
from psycopg_pool import PoolTimeout
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasker.domain.errors import UnavailableError
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

Returned = TypeVar("Returned")

#: SQLSTATE classes of a database in trouble: connection, rollback, resources, not in state, intervention; and of
#: the disk under it.
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
#: A standby that has not been promoted yet: during a failover every write meets it.
_READ_ONLY: Final = "25006"
#: The two that another try at once usually cures.
_CONFLICTS: Final = frozenset({"40P01", "40001"})

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0


def is_transient(error: BaseException) -> bool:
    """Tell whether the database failed, rather than the statement."""
    if isinstance(error, PoolTimeout | psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.Error):
        return isinstance(error, OSError)
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate[:2] in _TRANSIENT_CLASSES or error.sqlstate == _READ_ONLY


def as_unavailable(error: Exception) -> Exception:
    """Return what to tell whoever waits for an answer: a database in trouble is unavailable, not broken."""
    if isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY:
        return UnavailableError("the database takes no writes", retry_after_seconds=1)
    if isinstance(error, psycopg.Error) and is_transient(error):
        return UnavailableError("the database does not answer", retry_after_seconds=1)
    return error


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS


async def without_conflict(call: Callable[[], Awaitable[Returned]]) -> Returned:
    """Make a call that is a whole transaction; on deadlock or serialisation failure a few times, with jitter."""
    try:
        return await call()  # nearly always enough, and the retry machinery costs as much as a short query
    except psycopg.Error as error:
        if not _is_conflict(error):
            raise

    async def again() -> Returned:  # tenacity awaits coroutine functions only; a lambda is none
        return await call()

    return await AsyncRetrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.005, max=0.1),
        reraise=True,
    )(again)


def pauses(longest_seconds: float = _LONGEST_PAUSE_SECONDS) -> Iterator[float]:
    """Yield how long to wait after each of several failures in a row: twice as long each time, up to the longest."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 2, longest_seconds)


async def patiently(
    call: Callable[[], Awaitable[Returned]],
    event: str,
    *,
    outlasts: Callable[[BaseException], bool] = is_transient,
    longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    **facts: object,
) -> Returned:
    """Make a call again and again while the database is away, with pauses that double.

    Args:
        call: What to do. It may be done more often than it succeeds.
        event: How the log calls a failure.
        outlasts: Which failures to wait out; all others are raised at once.
        longest_pause_seconds: Where the pauses stop to grow.
        facts: What the log says with each failure.
    """
    waits = pauses(longest_pause_seconds)
    while True:
        try:
            return await call()
        except Exception as error:
            if not outlasts(error):
                raise
            pause = next(waits)
            log.warning(event, error=type(error).__name__, retry_seconds=pause, **facts)
        await asyncio.sleep(pause)
