"""The event loop that commands run on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tasker.ctl.event_loop import run


def test_an_exit_in_a_callback_ends_nothing() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        after = loop.create_future()
        loop.call_soon(sys.exit, 5)
        loop.call_soon(after.set_result, "went on")
        return str(await after)

    assert run(main()) == "went on"


def test_an_exit_of_the_command_itself_ends_it() -> None:
    async def main() -> None:
        sys.exit(5)

    with pytest.raises(SystemExit, match="5"):
        run(main())
