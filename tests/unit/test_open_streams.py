"""How many streams may be open: the one too many is told, and one that ends makes room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tasker.domain.errors import TooManyStreamsError
from tasker.rpc import streams
from tasker.rpc.streams import OpenStreams


def test_the_server_has_a_limit() -> None:
    counted = OpenStreams(at_most=2)
    with counted.one_of("a"):
        with counted.one_of("b"):
            with pytest.raises(TooManyStreamsError, match="2 streams open") as caught, counted.one_of("c"):
                pass
            assert caught.value.metadata == {"limit": "2"}
        with counted.one_of("c"):
            assert counted.count == 2
    assert counted.count == 0


def test_a_connection_has_one_and_others_do_not_suffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS_OF_CONNECTION", 3)
    counted = OpenStreams(at_most=100)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(counted.one_of("ipv4:10.0.0.1:4000"))
            stack.enter_context(counted.one_of("unix:"))
        with pytest.raises(TooManyStreamsError, match="another connection"):
            stack.enter_context(counted.one_of("ipv4:10.0.0.1:4000"))
        stack.enter_context(counted.one_of("ipv4:10.0.0.1:4001"))
        stack.enter_context(counted.one_of("unix:"))  # all clients have this name
        assert counted.count == 8


def test_a_stream_that_fails_makes_room_too() -> None:
    counted = OpenStreams(at_most=1)
    with pytest.raises(RuntimeError), counted.one_of("a"):
        raise RuntimeError("gone")
    with counted.one_of("a"):
        assert counted.count == 1
