"""Commands `tasker` as processes that need not import anything: each is a fork of one that has imported all of it.

Of what a command costs that starts, nine tenths are imports. A process of the run starts the nursery once, as a program
of its own; it forks at every request. What is about the start itself, such as what a command imports, or that it is on
a terminal, is tested with the installed command.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_STREAMS: Final = 3


class Nursery:
    """The process that forks, and the way to ask it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P: the path to import from is that of the installed command.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours

    def fork(
        self, arguments: list[str], *, cwd: str, environment: dict[str, str], streams: tuple[int, int, int]
    ) -> int:
        """Begin a command; return the descriptor on which its process id and then its exit code are told, a line each.

        Args:
            arguments: Those of the command, its name first.
            cwd: Where it runs.
            environment: All of its environment.
            streams: Its standard input, output and error.
        """
        told, telling = os.pipe()
        try:
            request = json.dumps({"arguments": arguments, "cwd": cwd, "environment": environment})
            socket.send_fds(self._socket, [request.encode()], [*streams, telling])
        finally:
            os.close(telling)
        return told

    def close(self) -> None:
        """End it; commands that run go on."""
        self._socket.close()
        self._process.wait()


def _serve(requests: socket.socket) -> None:
    """Fork for each request; in a fork, return to become the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who wait for commands are not waited for
    while True:
        text, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, _STREAMS + 1)
        if not text:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _become(json.loads(text), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Fork once more: one process becomes the command and returns, the other tells how that ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, telling = descriptors
    command = os.fork()
    if command:
        for ignored in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ignored, signal.SIG_IGN)
        for descriptor in streams:
            os.close(descriptor)
        os.write(telling, f"{command}\n".encode())
        _, status = os.waitpid(command, 0)
        with suppress(BrokenPipeError):
            os.write(telling, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    os.close(telling)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As the interpreter makes them for what is no terminal.
    sys.stdin = _text(0, "r")
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w", errors="backslashreplace", buffering=1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]


def _text(descriptor: int, mode: str, **more: Any) -> Any:
    return open(descriptor, mode, encoding="utf-8", closefd=False, **more)


def _run_to_the_end(command: Callable[[], object]) -> None:
    """Run it and end as the interpreter would, which would also take apart all that was imported, slowly."""
    code = 0
    try:
        command()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _import_everything() -> None:
    import tasker.ctl.call_failures
    import tasker.ctl.commands
    import tasker.ctl.demo
    import tasker.ctl.dev
    import tasker.ctl.health
    import tasker.ctl.migrate
    import tasker.ctl.orchestration
    import tasker.ctl.service_failures
    import tasker.ctl.task
    import tasker.ctl.template
    import tasker.ctl.watching
    import tasker.ctl.worker  # noqa: F401


if __name__ == "__main__":
    from tasker.ctl.main import main

    _import_everything()
    gc.freeze()  # a fork writes to no page of what was imported
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _run_to_the_end(main)
