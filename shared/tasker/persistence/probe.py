"""Whether the database answers, and takes writes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tasker.persistence.database import Database
from tasker.persistence.listener import Listener
from tasker.persistence.sessions import Session
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

QUESTION: Final = """
    SELECT CASE WHEN pg_is_in_recovery() THEN 'the database is a standby'
                WHEN current_setting('transaction_read_only')::boolean THEN 'the database takes no writes' END
"""
_NO_ANSWER: Final = "the database does not answer"
#: While the database is away, or nothing else would tell that it goes.
_INTERVAL_SECONDS: Final = 1.0
#: Since the last answer to anybody, while all is well: who listens knows at once of a connection that ends, and a
#: network that is dead shows by asking.
_LONGEST_INTERVAL_SECONDS: Final = 3.0
#: Since the last answer to this question: others ask what a database that takes no writes answers just as well.
_LONGEST_TRUST_SECONDS: Final = 10.0
_TIMEOUT_SECONDS: Final = 1.0
#: Between finding that somebody has just had an answer and looking again.
_SHORTEST_WAIT_SECONDS: Final = 0.01


class DatabaseProbe:
    """Asks the database and tells when the answer changes.

    It asks once a second while there is no answer, and while all is well when nobody else had one for three seconds; at
    once when the listener is cut off or connects again, and when somebody wants to know and the last answer to anybody
    is more than a second old. That it takes writes is asked every ten seconds, and at once when it refused one.

    Attributes:
        problem: What was wrong with the last answer; None if it was as it should be.
        milliseconds: How long the last answer took.
    """

    def __init__(
        self, database: Database, listener: Listener, *, on_change: Callable[[bool], Awaitable[None]]
    ) -> None:
        self._database = database
        self._listener = listener
        self._wakeup = listener.subscribe_connection()
        self._session = database.session()
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._given_up: set[asyncio.Task[None]] = set()
        self._asked_at = float("-inf")
        self._doubtful = False
        self.problem: str | None = _NO_ANSWER
        self.milliseconds = 0

    @property
    def ready(self) -> bool:
        """Whether the database answered last time, and took writes."""
        return self.problem is None

    async def start(self) -> None:
        """Ask now, then in the background."""
        self._loop = asyncio.get_running_loop()
        self._database.pulse.on_refusal = self._refused
        await self.check()
        self._task = asyncio.create_task(self._run(), name="probe")

    async def stop(self) -> None:
        """Ask no more."""
        self._database.pulse.on_refusal = lambda: None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*self._given_up)
        await self._session.close()

    async def check(self) -> bool:
        """Ask now and return the answer."""
        async with self._lock:
            return await self._check()

    async def refresh(self) -> None:
        """Ask unless the last answer to anybody is less than a second old."""
        async with self._lock:
            if self._silence() >= _INTERVAL_SECONDS:
                await self._check()

    def _silence(self) -> float:
        return time.monotonic() - self._database.pulse.beat_at

    def _refused(self) -> None:
        """Runs in the thread of whoever wanted to write."""
        self._loop.call_soon_threadsafe(self._doubt)

    def _doubt(self) -> None:
        """Ask soon: the database has refused a write."""
        self._doubtful = True
        self._wakeup.set()

    async def _check(self) -> bool:
        self._doubtful = False
        started = time.perf_counter()
        problem = await self._ask()
        self._asked_at = time.monotonic()
        self.milliseconds = round((time.perf_counter() - started) * 1000)
        if problem != self.problem:
            was_ready, self.problem = self.ready, problem
            if problem is None:
                log.info("database_answers")
            else:
                log.warning("database_gone", problem=problem)
            self._wakeup.set()  # whoever has asked: go on at the pace that suits the answer
            if self.ready is not was_ready:
                await self._on_change(self.ready)
        return self.ready

    async def _ask(self) -> str | None:
        """Return what is wrong with the database."""
        asking = asyncio.create_task(self._session.fetch_value(QUESTION))
        problem: str | None = _NO_ANSWER
        try:
            await asyncio.wait([asking], timeout=_TIMEOUT_SECONDS)
        finally:
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                problem = asking.result()
            if problem is not None:
                # A new connection each time: it may lead to a server that is as it should be.
                giving_up = asyncio.create_task(_give_up(asking, self._session))
                self._given_up.add(giving_up)
                giving_up.add_done_callback(self._given_up.discard)
                self._session = self._database.session()
        return problem

    async def _run(self) -> None:
        while True:
            wait = _INTERVAL_SECONDS
            if self.ready and self._listener.is_connected:
                wait = max(self._rest(), _SHORTEST_WAIT_SECONDS)
            await self._wakeup.wait(wait)
            # Loops of a service without work ask often enough; whoever loses the listener asks in any case.
            well = self.ready and self._listener.is_connected and not self._doubtful
            if not well or self._rest() <= 0:
                await self.check()

    def _rest(self) -> float:
        """Return for how long the answers so far will do."""
        asked = time.monotonic() - self._asked_at
        return min(_LONGEST_INTERVAL_SECONDS - self._silence(), _LONGEST_TRUST_SECONDS - asked)


async def _give_up(asking: asyncio.Task[Any], session: Session) -> None:
    """Cancel a question; while the network is dead, this takes psycopg ten seconds."""
    asking.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await asking
    await session.close()
