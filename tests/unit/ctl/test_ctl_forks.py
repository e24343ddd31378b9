"""The command forks while gRPC's threads run, and gRPC has to keep out of it."""

from __future__ import annotations

import os
import subprocess
import sys

# With its fork handlers on, gRPC's core tells at each of these forks that it skips them.
FORKS = """
import asyncio, os
import {first}
from grpc import aio

async def main():
    server = aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for _ in range(5):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    await server.stop(None)

asyncio.run(main())
"""


def test_grpc_has_no_fork_handlers() -> None:
    loud = os.environ | {"GRPC_VERBOSITY": "INFO"}
    del loud["GRPC_ENABLE_FORK_SUPPORT"]  # which the tests' own process has set
    for first in ("tasker.ctl.main", "tests.conftest"):
        program = [sys.executable, "-c", FORKS.format(first=first)]
        done = subprocess.run(program, env=loud, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert "fork" not in done.stderr
