"""docs/how-it-works.md tells the truth: what it names exists where it says, and its numbers are those of the code."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.domain.retry import LEASE, LEASE_RENEWAL
from tasker.messaging import claim_order, wakeup
from tasker.messaging.queues import Band
from tasker.orchestration.engine import feeds, streams, watching
from tasker.orchestration.loops import backpressure
from tasker.orchestration.loops.sweeper import LeaseSweeper
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence import failures, probe
from tasker.persistence.operations.claim import HYDRATION_BYTES
from tasker.persistence.schema_files import load_functions, load_migrations
from tasker.rpc import streams as rpc_streams
from tasker.rpc.server import ORCHESTRATION_OPTIONS
from tests.support.engine import Engine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FUNCTIONS = {file.name: file.statements for file in load_functions()}


def body(name: str) -> str:
    """Return the text of a SQL function."""
    pattern = re.compile(rf"FUNCTION tasker\.{name}\(.*?AS \$\$(.*?)^\$\$", re.DOTALL | re.MULTILINE)
    (text,) = (match[1] for file in FUNCTIONS.values() if (match := pattern.search(file)))
    return text


def rows(section: str) -> list[list[str]]:
    """Return the cells of a section's table."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# The path of a step


def test_each_hop_is_where_the_table_says() -> None:
    for step, where, sql, _ in rows("The path of a step"):
        for path in re.findall(r"`([\w/]+\.py)`", where):
            assert (ROOT / path).is_file(), (step, path)
        named = re.findall(r"`(\w+_v\d+)`(?: and `(\w+_v\d+)`)? in `functions/(\w+)\.sql`", sql)
        assert bool(named) == (step != "execute")
        for *functions, file in named:
            for function in filter(None, functions):
                assert f"FUNCTION tasker.{function}(" in FUNCTIONS[file], (step, function)


def test_the_functions_it_names_are_called_by_the_module_of_their_file() -> None:
    """`advance` alone is called by SQL."""
    operations = ROOT / "shared/tasker/persistence/operations"
    named = [
        (function, file)
        for _, _, sql, _ in rows("The path of a step")
        for *functions, file in re.findall(
            r"`(\w+_v\d+)`(?: and `(\w+_v\d+)`)? in `functions/(\w+)\.sql`", sql
        )
        for function in filter(None, functions)
        if file != "advance"
    ]
    assert ("expand_tasks_v1", "expand") in named
    for function, file in named:
        assert f"tasker.{function}(" in (operations / f"{file}.py").read_text(encoding="utf-8")


def test_each_module_of_operations_is_the_python_side_of_one_file() -> None:
    for path in (ROOT / "shared/tasker/persistence/operations").glob("[a-z]*.py"):
        called = set(re.findall(r"tasker\.(\w+_v\d+)\(", path.read_text(encoding="utf-8")))
        files = {
            file for file, text in FUNCTIONS.items() for name in called if f"FUNCTION tasker.{name}(" in text
        }
        assert files <= {path.stem}, path


def test_what_leads_to_advance() -> None:
    callers = {file for file, text in FUNCTIONS.items() if "tasker.advance_tasks_v1(" in text} - {"advance"}
    told = set(re.findall(r"`functions/(\w+)\.sql`", SECTIONS["The path of a step"]))
    assert callers == told - {"advance", "cancel", "claim", "create", "give_up", "queues", "submit", "what"}


# States


def test_an_open_tasks_state_follows_from_its_counts_in_this_order() -> None:
    ordered = re.findall(r"THEN '(\w+)'|ELSE '(\w+)'", body("task_state_for_v1"))
    prose = SECTIONS["States"].partition("in this order:")[2]
    assert re.findall(r"`(\w+)`", prose)[:5] == [then or otherwise for then, otherwise in ordered]


# What is written


async def test_append_only_tables_have_no_foreign_keys(engine: Engine) -> None:
    found = await engine.sql(
        "SELECT conrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' AND connamespace = 'tasker'::regnamespace"
    )
    with_keys = {table for (table,) in found}
    for table in ("step_results", "task_transitions", "workflow_step_transitions", "workflow_step_edges"):
        assert f"tasker.{table}" not in with_keys


def test_tables_and_settings_it_names_exist() -> None:
    schema = "\n".join(migration.statements for migration in load_migrations())
    tables = set(re.findall(r"CREATE TABLE tasker\.(\w+) ", schema))
    assert {"workflow_steps", "tasks", "step_leases", "step_results"} <= tables
    assert set(re.findall(r"`(step_\w+|tasks|workflow_\w+)[`.]", PAGE)) <= tables
    fields = OrchestrationSettings.model_fields | WorkerSettings.model_fields
    assert set(re.findall(r"`(TASKER_\w+)`", PAGE)) <= {
        str(field.validation_alias) for field in fields.values()
    }


def test_its_other_numbers_are_those_of_the_code() -> None:
    prose = re.sub(r"\s+", " ", PAGE)
    assert HYDRATION_BYTES == 64 * 1024
    assert "up to 64 KB" in prose
    assert "interval '90 seconds'" in body("handler_offered_v1")
    assert "less than 90 s old" in prose
    polls = {
        loop: inspect.signature(loop).parameters["poll_seconds"].default for loop in (LeaseSweeper, TimerLoop)
    }
    assert polls == {LeaseSweeper: 5.0, TimerLoop: 5.0}
    assert "the sweeper (every 5 s)" in prose
    assert "but at least every 5 s |" in prose


def test_it_says_how_often_what_is_asked() -> None:
    (queues, timer, _, health, waiting) = (asks for _, asks in rows("Wake-ups"))
    assert (wakeup.POLL_SECONDS, wakeup.LONGEST_POLL_SECONDS) == (1, 5)
    assert "1 s after the last work, then less and less often up to every 5 s; every 1 s while" in queues
    assert "at least every 5 s" in timer
    assert (probe._LONGEST_INTERVAL_SECONDS, probe._INTERVAL_SECONDS) == (3, 1)
    assert probe._LONGEST_TRUST_SECONDS == 10
    assert health.startswith("when no loop had an answer for 3 s, and every 10 s whether writes are taken;")
    assert "; every 1 s while the database" in health
    assert health.endswith("older than 1 s")
    assert (waiting, backpressure._PAUSE_SECONDS) == ("how much waits, every 5 s", 5)


def test_watching_is_bounded_as_it_says() -> None:
    prose = re.sub(r"\s+", " ", SECTIONS["Watching"])
    assert (
        watching._FIRST_POLL_SECONDS,
        watching._SLOWEST_POLL_SECONDS,
        watching._POLL_AFTER_NEWS_SECONDS,
        watching._DEAF_POLL_SECONDS,
        watching._WATCH_SECONDS,
    ) == (0.05, 5, 1, 1, 60)
    for told in (
        "50 ms after somebody has begun to watch",
        "up to every 5 s; 1 s after news; every 1 s while",
        f"With {streams._MANY} updates waiting",
        f"takes none for {streams.PATIENCE_SECONDS:g} s",
        f"A connection may have {rpc_streams.MOST_STREAMS_OF_CONNECTION:,} streams open",
        f"lets {ORCHESTRATION_OPTIONS.max_concurrent_streams:,} calls",
        f"at most {feeds.MOST_TASKS_WITH_STEPS:,} open tasks",
        f"is read {feeds._MOST_MOVED:,} transitions at a time",
        "lapses a minute after",
    ):
        assert told in prose, told


# Numbers


def test_leases_last_and_are_renewed_as_it_says() -> None:
    lasts, renewed = re.findall(r"lasts (\d+) s and is renewed every (\d+) s", PAGE)[0]
    assert (LEASE.total_seconds(), LEASE_RENEWAL.total_seconds()) == (int(lasts), int(renewed))


def test_messages_of_busy_tasks_come_back_when_it_says() -> None:
    assert "come back 50 ms later" in re.sub(r"\s+", " ", PAGE)
    assert "interval '50 milliseconds'" in body("lock_tasks_v1")


def test_messages_without_a_handler_come_back_when_it_says() -> None:
    assert "a growing delay, 1 s to 30 s" in PAGE
    assert "least(30, 2 ^ least(v_refusals, 5))" in body("refuse_messages_v1")


def test_hints_stop_when_it_says() -> None:
    assert "half\nfull" in PAGE or "half full" in PAGE
    assert "pg_notification_queue_usage() < 0.5" in body("hint_v1")


def test_failures_of_the_database_are_those_it_lists() -> None:
    (listed,) = re.findall(r"SQLSTATE classes ([\d, ]+), and (\d+);", re.sub(r"\s+", " ", PAGE))
    assert set(listed[0].split(", ")) == failures._TRANSIENT_CLASSES
    assert listed[1] == failures._READ_ONLY


def test_claims_begin_with_the_bands_as_it_says() -> None:
    assert (
        "of ten claims\n  six begin with the high band, three with the middle one, one with the low one"
        in PAGE
    )
    assert Counter(claim_order._FIRST_BANDS) == {Band.HIGH: 6, Band.NORMAL: 3, Band.LOW: 1}


# Words


def test_a_word_is_explained_once() -> None:
    words = [word.strip() for row in rows("The words") for word in row[0].split(",")]
    assert [word for word, times in Counter(words).items() if times > 1] == []


VERBS = "create enqueue claim submit process judge expand advance sweep reconcile retain"


@pytest.mark.parametrize("verb", VERBS.split())
def test_the_verbs_of_the_engine_are_explained(verb: str) -> None:
    assert verb in [word.strip() for row in rows("The words") for word in row[0].split(",")]
