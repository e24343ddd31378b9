"""The command line's entry point."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn, cast


def main() -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _interrupt)  # until a service listens: tidy up, then exit
    for stream in (sys.stdout, sys.stderr):  # a sign that a terminal does not know is no reason to fail
        cast("TextIOWrapper", stream).reconfigure(errors="replace")
    code = 1  # what the interpreter makes of an error that nobody expected
    try:
        code = execute()
    finally:
        _end_soon(code)
    sys.exit(code)


def execute() -> int:
    """Do what the arguments say; return the exit code."""
    # Imported here: programs ask for the version, and that needs no command.
    if sys.argv[1:] == ["--version"]:
        from tasker.version import VERSION

        sys.stdout.write(f"tasker {VERSION}\n")
        return 0
    from tasker.ctl.commands import run_command

    return run_command()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would: while an event loop runs, cancel what it does.

    An exception raised wherever the loop happens to be is lost in the code of libraries that swallow it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # Ctrl-C is ignored, as in the background of a script; SIGTERM is not
        handler = signal.default_int_handler
    handler(number, frame)


def _end_soon(code: int) -> None:
    """Let the process end by itself, but not wait for ever for threads that were given up, whose ever they are."""
    for stream in (sys.stdout, sys.stderr):  # first of all: whoever reads it may take as long as he likes
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    if threading.active_count() == 1:
        return
    # Imported here: only what had a service or a client leaves threads.
    import logging

    from tasker.ctl.event_loop import LEFTOVER_SECONDS

    last = threading.Timer(LEFTOVER_SECONDS, os._exit, [code])
    last.daemon = True
    last.start()
    logging.shutdown()  # which would happen by itself, but only after the last thread


if __name__ == "__main__":
    main()
