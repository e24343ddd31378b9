"""Services in one process: started in order, stopped in reverse, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tasker.ctl.running import ShutdownTimeoutError, serve


class Probe:
    """A service that notes what happens to it."""

    def __init__(self, name: str, notes: list[str], *, stopping: Exception | None = None) -> None:
        self._name = name
        self._notes = notes
        self._stopping = stopping

    async def start(self) -> None:
        self._notes.append(f"{self._name} starts")

    async def stop(self) -> None:
        self._notes.append(f"{self._name} stops")
        if self._stopping is not None:
            raise self._stopping


class Signalled(Probe):
    """Somebody stops the process while this service starts; left alone it would start for ever."""

    async def start(self) -> None:
        await super().start()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()


class Broken(Probe):
    """Does not start."""

    async def start(self) -> None:
        await super().start()
        raise RuntimeError("broken")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_in_reverse_order(number: signal.Signals) -> None:
    notes: list[str] = []
    await serve([Probe("a", notes), Probe("b", notes)], when_ready=lambda: os.kill(os.getpid(), number))
    assert notes == ["a starts", "b starts", "b stops", "a stops"]


async def test_a_signal_during_the_start_stops_what_has_started() -> None:
    notes: list[str] = []
    await serve(
        [Probe("a", notes), Signalled("b", notes), Probe("c", notes)],
        when_ready=lambda: notes.append("ready"),
    )
    assert notes == ["a starts", "b starts", "a stops"]


async def test_a_service_that_does_not_start_ends_the_others() -> None:
    notes: list[str] = []
    with pytest.raises(RuntimeError, match="broken"):
        await serve([Probe("a", notes), Broken("b", notes), Probe("c", notes)])
    assert notes == ["a starts", "b starts", "a stops"]


async def test_a_service_that_does_not_stop_in_time_leaves_the_others_their_end() -> None:
    notes: list[str] = []
    with pytest.raises(ShutdownTimeoutError, match="they will run again"):
        await serve(
            [Probe("a", notes), Probe("b", notes, stopping=TimeoutError())],
            when_ready=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert notes == ["a starts", "b starts", "b stops", "a stops"]


async def test_the_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    await serve([], when_ready=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) == before


async def test_a_signal_to_a_forked_child_does_not_stop_its_parent() -> None:
    notes: list[str] = []

    def fork_and_terminate() -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        notes.append(f"the child ended by {signal.Signals(os.WTERMSIG(status)).name}")
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, stop)

    def stop() -> None:  # had the parent heard its child's signal, it would stop before
        notes.append("goes on")
        os.kill(os.getpid(), signal.SIGTERM)

    await serve([Probe("a", notes)], when_ready=fork_and_terminate)
    assert notes == ["a starts", "the child ended by SIGTERM", "goes on", "a stops"]
