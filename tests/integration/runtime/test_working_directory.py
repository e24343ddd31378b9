"""Steps that change the working directory, which they share with all others."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from tasker.worker.runtime.working_directory import WorkingDirectory
from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import until
from tests.support.workshop import Workshop

DOCUMENT = chain(2)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return where the test begins; the process is where it was afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


async def test_the_next_step_is_where_the_worker_began_and_the_log_names_the_step_that_left(
    engine: Engine, workshop: Workshop, start_worker: StartWorker, home: Path, tmp_path: Path
) -> None:
    seen: list[str] = []
    workshop.behaviours["s1"] = lambda _: os.chdir(tmp_path)
    workshop.behaviours["s2"] = lambda _: seen.append(os.getcwd())
    task = await engine.create(DOCUMENT)
    with capture_logs() as lines:
        await start_worker(DOCUMENT)

        async def second_ran() -> bool:
            await engine.process()
            return bool(seen)

        await until(second_ran)
    assert seen == [str(home)]
    (line,) = [line for line in lines if line["event"] == "working_directory_left_behind"]
    assert (line["log_level"], line["task_uuid"], line["step_name"], line["attempt"], line["directory"]) == (
        "warning", str(task), "s1", 1, str(tmp_path),
    )  # fmt: skip


def test_while_others_run_it_is_told_once_and_left_for_they_may_need_it(home: Path, tmp_path: Path) -> None:
    directory = WorkingDirectory()
    step = a_step()
    with capture_logs() as lines:
        directory.look(step, others_run=False)
        os.chdir(tmp_path)
        directory.look(step, others_run=True)
        directory.look(step, others_run=True)
        assert os.getcwd() == str(tmp_path)
        directory.look(step, others_run=False)
        assert os.getcwd() == str(home)
        directory.look(step, others_run=False)
    assert [line["event"] for line in lines] == ["working_directory_left_behind"]


def test_one_that_cannot_be_gone_back_to_is_told_of(home: Path, tmp_path: Path) -> None:
    directory = WorkingDirectory()
    os.chdir(tmp_path)
    home.rmdir()
    with capture_logs() as lines:
        directory.look(a_step(), others_run=False)
    assert [line["event"] for line in lines] == ["working_directory_left_behind", "working_directory_gone"]


def a_step() -> Any:
    return SimpleNamespace(correlation_id=uuid4(), task_uuid=uuid4(), step_uuid=uuid4(), name="s", attempt=1)
