"""docs/operations.md tells the truth: its settings and log lines exist, its SQL does what it says."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tasker.client import TaskerClient
from tasker.client.operations import Operations
from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.domain.backpressure import RETRY_AFTER_SECONDS
from tasker.orchestration.engine import backpressure
from tasker.orchestration.loops import backpressure as backpressure_loop
from tasker.persistence.reading.backlogs import MOST_EXACT
from tasker.telemetry import loop_watch
from tests.support import services
from tests.support.engine import Engine, diamond
from tests.support.faults import send_by_hand
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SQL = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
BEGINNING = UUID(int=0)


def _sources() -> str:
    folders = ("shared/tasker", "orchestration/tasker", "worker/tasker")
    return "\n".join(
        path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")
    )


def test_the_settings_it_names_exist_with_the_defaults_it_gives() -> None:
    fields = OrchestrationSettings.model_fields | WorkerSettings.model_fields
    defaults = {str(field.validation_alias): field.default for field in fields.values()}
    assert set(re.findall(r"TASKER_\w+", PAGE)) <= set(defaults)
    rows = re.findall(r"^\| `(TASKER_\w+)` \| (\d+) \|", PAGE, re.M)
    listed = re.compile(r"TASKER_RETENTION_|TASKER_\w+_QUEUE_")
    assert {(name, int(default)) for name, default in rows} == {
        (name, default) for name, default in defaults.items() if listed.match(name)
    }
    for name, default in re.findall(r"`(TASKER_LOOP_\w+)` \((\d+)\)", PAGE):
        assert int(default) == defaults[name]
    assert "`TASKER_LOOP_BLOCKED_SECONDS` (" in PAGE


def test_its_numbers_of_back_pressure_are_those_of_the_code() -> None:
    prose = " ".join(PAGE.split())
    assert f"What was read more than {backpressure.STALE_SECONDS:.0f} s ago" in prose
    assert f"Up to {MOST_EXACT:,} messages of a queue are counted" in prose
    assert backpressure_loop._PAUSE_SECONDS == 5
    assert "reads every five seconds how much waits" in prose
    assert list(RETRY_AFTER_SECONDS.values()) == [30, 60]
    assert loop_watch._REMEMBERED_SECONDS == 300
    assert "for five minutes after that the detailed health is degraded" in prose


def test_what_it_says_of_services_that_are_not_ready_is_what_they_say() -> None:
    _, section = PAGE.split("| Not ready |")
    rows = re.findall(r"^\| (`.+?`) \|", section.split("\n## ")[0], re.M)
    assert len(rows) == 5
    for texts in rows:
        for text in re.findall(r"`(.+?)`", texts):
            assert text in _sources(), text


@pytest.mark.parametrize(
    "event",
    [
        "old_tasks_deleted",
        "task_expired",
        "message_poisoned",
        "database_warning",
        "namespace_paused",
        "namespace_resumed",
        "backpressure",
        "event_loop_blocked",
        "event_loop_goes_on",
    ],
)
def test_the_log_lines_it_names_are_written(event: str) -> None:
    assert f"`{event}`" in PAGE
    assert re.search(rf'(log\.\w+|write)\(\s*"{event}"', _sources())


def test_the_tables_it_names_exist_and_the_links_lead_somewhere() -> None:
    schema = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations").rglob("*.sql"))
    for table in re.findall(r"`tasker\.(\w+)`", PAGE):
        assert f"CREATE TABLE tasker.{table} " in schema
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


async def test_its_query_shows_the_poison(engine: Engine) -> None:
    looking, _ = SQL
    await send_by_hand(engine, "orchestration_step_results", {})
    await engine.results.tick()
    ((_, queue, error, *rest),) = await engine.sql(looking)
    assert (queue, rest) == ("orchestration_step_results", [None, None, {}])
    assert "does not name a task and a step" in error


async def _rows(engine: Engine) -> list[tuple[str, str]]:
    """Return the partition of every row there is in a partitioned table, by its parent."""
    parents = await engine.sql("SELECT relname FROM pg_class WHERE relkind = 'p'")
    found: list[tuple[str, str]] = []
    for (parent,) in parents:
        rows = await engine.sql(f"SELECT tableoid::regclass::text FROM tasker.{parent}")
        found += [(parent, partition.removeprefix("tasker.")) for (partition,) in rows]
    return found


@pytest.mark.own_database
async def test_its_partitions_work(any_engine: Engine) -> None:
    _, partitioning = SQL
    document = diamond(retry={"backoff": "none"})
    before = await any_engine.create(document)
    running = await any_engine.create(document)
    await any_engine.run(before)
    await any_engine.disconnect()  # the services are stopped
    await any_engine.database.execute(partitioning)

    failed = await any_engine.create(document)
    await any_engine.fail(*await any_engine.claim())
    await any_engine.process()
    await any_engine.timers.tick()
    for task in (running, failed):
        await any_engine.run(task)
    await assert_history_is_whole(any_engine)
    await assert_nothing_drifted(any_engine)
    # One from the time of the next partition, as its uuid says.
    await any_engine.database.execute(
        "WITH later AS (SELECT tasker.least_uuid_v1(date_trunc('month', now()) + interval '40 days') AS task_uuid) "
        "INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at) "
        "SELECT task_uuid, 1, 'pending', 'complete', now() FROM later"
    )
    tables = {"step_results", "workflow_step_transitions", "task_transitions", "workflow_step_edges"}
    partitions = await _rows(any_engine)
    assert {(parent, f"{parent}_first") for parent in tables} < set(partitions)
    (later,) = {partition for parent, partition in partitions if partition != f"{parent}_first"}
    assert re.fullmatch(r"task_transitions_\d{4}_\d\d", later)
    ((audited,),) = await any_engine.sql("SELECT count(*) FROM tasker.workflow_step_result_audit")
    assert audited == 3 * 4 + 1  # the one that failed

    await any_engine.move_clock(91 * 86_400)
    deleted = await any_engine.delete_old_tasks(10, timedelta(days=90), BEGINNING)
    assert deleted.rows["tasks"] == 3
    assert [partition for _, partition in await _rows(any_engine)] == [later]


def test_tables_that_the_engine_updates_by_place_are_those_it_says() -> None:
    """What is not said to be partitionable is updated by ctid, or is said to be whole for another reason."""
    schema = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations").rglob("*.sql"))
    by_place = set(re.findall(r"(?:UPDATE|DELETE FROM) tasker\.(\w+) \w+\b[^;]*?\.ctid = ", schema))
    section = PAGE.partition("## Partitions")[2]
    partitioned, _, whole = section.partition("**Leave")
    assert not {name for name in by_place if f"`{name}`" in partitioned}
    assert {"tasks", "workflow_steps", "step_leases"} <= by_place
    assert {name for name in by_place if f"`{name}`" in whole} >= {"tasks", "workflow_steps", "step_leases"}


async def test_its_program_pauses_and_resumes(database_url: str, engine: Engine) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    await engine.create(diamond() | {"namespace_name": "shop"})
    async with services.orchestration(database_url) as service:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program.replace("127.0.0.1:9190", service.address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode() == "[('worker_shop_queue', 1)]\n"
    assert await engine.sql("SELECT namespace FROM tasker.paused_namespaces") == []
    assert len(await engine.worker.claim(["worker_shop_queue"], ["work"], 10)) == 1


def test_what_mends_a_task_are_calls_of_the_client() -> None:
    section = PAGE.partition("## Mending tasks")[2].partition("\n## ")[0]
    called = set(re.findall(r"`(\w+_(?:task|step|dlq))`", section))
    assert len(called) >= 6
    assert called <= set(dir(TaskerClient)) | set(dir(Operations))
