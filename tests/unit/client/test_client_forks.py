"""gRPC does not survive a fork: a client that is used in both processes says so instead of hanging."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Nothing listens there, which is answer enough. A child that hangs runs into the test's own limit.
PROGRAM = """
import asyncio, os, sys
from tasker.client import SyncTaskerClient, TaskerClient, TaskerClientError

address = "127.0.0.1:1"

def ask(client):
    try:
        client.get("00000000-0000-7000-8000-000000000000")
    except TaskerClientError:
        return "no answer"
    except RuntimeError as error:
        return str(error)

def made():
    return SyncTaskerClient(address, timeout_seconds=0.2)

async def ask_async():
    async with TaskerClient(address, timeout_seconds=0.2) as client:
        await client.get("00000000-0000-7000-8000-000000000000")

def in_child(what):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            print(what())
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)

used = made()
in_child(lambda: "before: " + ask(made()))
print("parent:", ask(used))
in_child(lambda: "used: " + ask(used))
in_child(lambda: "fresh: " + ask(made()))
in_child(lambda: used.close() or "closed")
in_child(lambda: asyncio.run(ask_async()))
print("parent:", ask(used))
used.close()
"""


def test_a_client_says_that_it_cannot_be_used_after_a_fork() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    refused = "this process was forked from one that had used gRPC"
    assert lines[0] == "before: no answer"
    assert lines[1] == lines[6] == "parent: no answer"
    assert [line.partition(refused)[0] for line in lines[2:4]] == [
        "used: ",
        "fresh: ",
    ]
    assert lines[4] == "closed"
    assert lines[5].startswith(f"RuntimeError: {refused}")


def test_a_process_that_was_not_forked_uses_grpc_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasker import forks

    monkeypatch.setattr(forks, "_used_by", None)
    assert not forks.is_forked()
    forks.use_grpc()
    forks.use_grpc()
    assert not forks.is_forked()
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert forks.is_forked()
