"""What the Python programs share: the lines of JSON they speak, the scenarios, and the bell at a chain's end."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import uvloop

ROLE, URL = sys.argv[1:3]
STEPS = 4
LEAVES = 100
CONCURRENCY = 32
RESULT = {"blob": "x" * 680}

#: Tables of an application whose queue stores no results or has no joins. A step that runs twice changes nothing.
APPLICATION = """
    CREATE TABLE results (number bigint, step int, result jsonb NOT NULL, PRIMARY KEY (number, step));
    CREATE TABLE fans (number bigint PRIMARY KEY, remaining int NOT NULL);
"""
_CHANNEL = "bench_done"
RING = f"SELECT pg_notify('{_CHANNEL}', %s)"


class Creator(Protocol):
    """Creates chains and learns of their ends."""

    async def open(self) -> None: ...
    async def create(self, number: int) -> Any:
        """Create a chain of four steps; return what `finished` takes."""

    async def finished(self, chain: Any) -> None:
        """Return when the chain is done."""

    async def fan(self, number: int) -> None:
        """Create one step, behind it a hundred, behind them one; return when the last is done."""

    async def close(self) -> None: ...


class Worker(Protocol):
    """Runs steps from `open` to `close`."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


@dataclass
class Span:
    """From the first step that a worker began to the last that it ended, by the clock on the wall."""

    first: float = 0.0
    last: float = 0.0
    steps: int = 0

    def begin(self) -> None:
        self.first = self.first or time.time()

    def end(self) -> None:
        self.last = time.time()
        self.steps += 1


span = Span()


class Bell:
    """Tells a creator that a chain is done, for peers that have no way of their own: the last step notifies."""

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)
        await self._connection.execute(f"LISTEN {_CHANNEL}")
        self._hearing = asyncio.create_task(self._hear())

    def expect(self, number: int) -> asyncio.Future[None]:
        """To be called before the chain is created: it may be done before the call returns."""
        rung = asyncio.get_running_loop().create_future()
        self._expected[str(number)] = rung
        return rung

    async def close(self) -> None:
        self._hearing.cancel()
        await self._connection.close()

    async def _hear(self) -> None:
        async for notification in self._connection.notifies():
            if rung := self._expected.pop(notification.payload, None):
                rung.set_result(None)


def main(
    set_up: Callable[[], Coroutine[Any, Any, None]], creator: type[Creator], worker: type[Worker]
) -> None:
    """Play the role that the command line names before the database's URL: `set_up`, `creator` or `worker`."""
    if ROLE == "set_up":
        uvloop.run(set_up())
    elif ROLE == "creator":
        uvloop.run(_create(creator()))
    else:
        uvloop.run(_work(worker()))


async def _create(creator: Creator) -> None:
    await creator.open()
    # What runs in the creator unless it is enqueued has a way of its own to be left for a worker.
    enqueue = getattr(creator, "enqueue", creator.create)
    numbers = iter(range(time.time_ns() // 1000, sys.maxsize))

    async def one_by_one(chains: int) -> dict[str, Any]:
        answer: dict[str, Any] = {"create_ms": [], "chain_ms": []}
        for _ in range(chains):
            started = time.perf_counter()
            chain = await creator.create(next(numbers))
            answer["create_ms"].append((time.perf_counter() - started) * 1000)
            await creator.finished(chain)
            answer["chain_ms"].append((time.perf_counter() - started) * 1000)
        return answer

    async def in_flight(chains: int, width: int) -> dict[str, Any]:
        async def run(_: int) -> None:
            await creator.finished(await creator.create(next(numbers)))

        return await _timed(chains, width, run)

    async def backlog(chains: int, width: int) -> dict[str, Any]:
        async def create(_: int) -> None:
            await enqueue(next(numbers))

        return await _timed(chains, width, create)

    async def fan(times: int) -> dict[str, Any]:
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            await creator.fan(next(numbers))
            taken.append((time.perf_counter() - started) * 1000)
        return {"fan_ms": taken}

    await _serve({"one_by_one": one_by_one, "in_flight": in_flight, "backlog": backlog, "fan": fan})
    await creator.close()


async def _timed(times: int, width: int, act: Callable[[int], Awaitable[None]]) -> dict[str, Any]:
    turns = iter(range(times))

    async def go_on() -> None:
        for turn in turns:
            await act(turn)

    started = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(width)))
    return {"seconds": time.perf_counter() - started}


async def _work(worker: Worker) -> None:
    async def tell_span() -> dict[str, Any]:
        return {"first": span.first, "last": span.last, "steps": span.steps}

    await worker.open()
    await _serve({"span": tell_span})
    await worker.close()


async def _serve(acts: dict[str, Callable[..., Awaitable[dict[str, Any]]]]) -> None:
    """Answer each line with a line, until there are no more."""
    _say({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        _say(await acts[request.pop("do")](**request))


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
