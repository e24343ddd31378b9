"""The plans of the hot path, read from PostgreSQL as it makes them: they must not depend on statistics."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tasker.domain.errors import InvalidArgumentError
from tasker.domain.retry import LEASE
from tasker.domain.states import TaskState
from tasker.persistence import connections, database, sessions
from tasker.persistence.connections import Connection
from tasker.persistence.operations.renew import Lease
from tasker.persistence.reading import listing as task_listing
from tasker.persistence.reading.listing import LastTask, TaskFilter, TaskListing, TaskOrder, TimeRange
from tasker.persistence.reading.transitions import Line
from tests.support.dynamic import decide, split, workflow
from tests.support.engine import Engine, diamond, success

pytestmark = pytest.mark.own_database

#: Tables that grow with the work. Left out: `clock`, `watchers` and `workers` (a handful of rows),
#: `task_namespaces` and `named_tasks` (one row a template version), and the queues, which PGMQ made.
GROWING = {
    "tasks",
    "workflow_steps",
    "workflow_step_edges",
    "step_results",
    "step_leases",
    "task_transitions",
    "workflow_step_transitions",
    "task_identities",
    "template_steps",
}
#: What the hot path calls.
HOT = {
    "create_tasks_v1",
    "claim_steps_v1",
    "submit_results_v1",
    "finish_steps_v1",
    "process_results_v1",
    "take_judgements_v1",
    "apply_verdicts_v1",
    "fire_timers_v1",
    "renew_leases_v1",
    "hydrate_step_v2",
    "task_steps_v2",
    "expand_tasks_v1",
}

#: How the test itself looks at a task.
_LOOKS = "SELECT state FROM tasker.tasks"

_OPTIONS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",
    "client_min_messages": "log",
}

DOCUMENT = diamond(retry={"max_attempts": 3, "backoff_base_ms": 100}) | {"identity_strategy": "strict"}

GROWS = workflow(
    "begin",
    "decide: decision < begin",
    "split: batchable < decide",
    "part: batch_worker < split",
    "join: deferred_convergence < part",
) | {"name": "grows"}


@dataclass
class Plans:
    """Every plan that was used, nested ones included.

    Attributes:
        leading: The first column of each index.
        used: Statement and plan.
    """

    leading: dict[str, str]
    used: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def heed(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """Take a log message; keep it if it is a plan."""
        _, found, text = (diagnostic.message_primary or "").partition(" plan:\n")
        if found:
            plan = json.loads(text)
            if not plan["Query Text"].startswith(_LOOKS):
                self.used.append((plan["Query Text"], plan["Plan"]))

    def flaws(self) -> set[str]:
        """Return what depends on statistics."""
        return {
            f"{flaw} in: {' '.join(statement.split())[:150]}"
            for statement, plan in self.used
            for node, parent in nodes(plan)
            if (flaw := self._flaw(node, parent)) is not None
        }

    def _flaw(self, node: dict[str, Any], parent: dict[str, Any]) -> str | None:
        kind: str = node["Node Type"]
        table: str | None = node.get("Relation Name")
        if kind in ("Hash Join", "Merge Join"):
            return kind
        if kind == "Seq Scan" and table in GROWING:
            return f"Seq Scan on {table}"
        index = node.get("Index Name")
        if index in self.leading and (table is None or table in GROWING):
            condition = node.get("Index Cond", "")
            if parent.get("Node Type") == "Limit" and "Filter" not in node:
                return None  # the first in the index's order: it stops at once
            if not re.search(rf"\b{self.leading[index]}\b", condition):
                return f"all of {index} read ({condition or 'no condition'})"
        return None

    def tables(self) -> set[str]:
        """Return the growing tables that were read through an index."""
        return {
            node["Relation Name"]
            for _, plan in self.used
            for node, _ in nodes(plan)
            if "Index Name" in node and node.get("Relation Name") in GROWING
        }


def nodes(
    plan: dict[str, Any], parent: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield a plan node and everything below it, each with what is above it."""
    yield plan, parent or {}
    for inner in plan.get("Plans", ()):
        yield from nodes(inner, plan)


@pytest.fixture
def explaining(any_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Make engines whose every session tells its plans."""
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        # Statistics appear when a test says so.
        for (table,) in connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace IN ('tasker'::regnamespace, 'pgmq'::regnamespace)"
        ).fetchall():
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        leading: dict[str, str] = dict(
            connection.execute(
                "SELECT i.indexrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a "
                "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
                "JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'tasker'::regnamespace"
            ).fetchall()
        )
    leading = {name.removeprefix("tasker."): column for name, column in leading.items()}
    configure = connections.configure
    url = make_conninfo(
        any_database_url, options=" ".join(f"-c {key}={value}" for key, value in _OPTIONS.items())
    )

    @asynccontextmanager
    async def explain() -> AsyncIterator[tuple[Engine, Plans]]:
        plans = Plans(leading)

        async def configured(connection: Connection) -> None:
            connection.add_notice_handler(plans.heed)
            await configure(connection)

        for module in (database, sessions):
            monkeypatch.setattr(module, "configure", configured)
        async with Engine(url) as engine:
            yield engine, plans
        for module in (database, sessions):
            monkeypatch.setattr(module, "configure", configure)

    return explain


async def create(engine: Engine, first: int, count: int) -> list[UUID]:
    """Create tasks with contexts of their own."""
    template = await engine.register(DOCUMENT)
    created = await asyncio.gather(*(engine.request(template, {"n": n}) for n in range(first, first + count)))
    return [creation.task.task_uuid for creation in created]


async def grow(url: str, tasks: int) -> None:
    """Fill the tables: tasks whose first steps are done and whose others are enqueued, claimed or in backoff."""
    async with Engine(url) as engine:
        await create(engine, 10_000, tasks)
        while steps := [step for step in await engine.claim(200) if step.name == "start"]:
            await engine.succeed(*steps, result={"text": "x" * 300})
            await engine.results.tick()
        await engine.process()
        claimed = await engine.claim(300)
        await engine.fail(*claimed[:100])
        await engine.process()
        # What is still enqueued is taken out of the way of the round that is read.
        await engine.sql("SELECT pgmq.purge_queue('worker_test_queue')")


async def one_round(engine: Engine, first: int) -> None:
    """Go through the whole hot path with a few tasks: creation to completion, with a retry."""
    tasks = await create(engine, first, 3)
    template = await engine.register(DOCUMENT)
    again = (engine.request(template, {"n": first}) for _ in range(2))
    replayed = await asyncio.gather(*again, return_exceptions=True)
    assert all(isinstance(answer, Exception) for answer in replayed)
    steps = await engine.claim()
    assert {step.task_uuid for step in steps} == set(tasks)
    lost = await engine.renew([Lease(s.task_uuid, s.step_uuid, s.lease_token) for s in steps])
    assert lost == set()
    for step in steps:
        await engine.hydrate(step)
    await engine.fail(*steps[:1])
    await engine.succeed(*steps[1:])
    await engine.process()
    await engine.move_clock(60)
    await engine.timers.tick()
    while any([await engine.state(task) != "complete" for task in tasks]):
        ready = await engine.claim()
        assert ready
        await engine.succeed(*ready)
        await engine.process()
    await _grow_one(engine)
    await _run_short(engine)


async def _run_short(engine: Engine) -> None:
    """Run a task whose steps are completed where they are submitted, and claimed with that."""
    task = await engine.create(diamond() | {"name": "short"})
    ready = await engine.claim()
    while ready:
        ready = (await engine.finish(*(success(step, {}) for step in ready), limit=2)).claimed
    assert await engine.state(task) == "complete"


async def _grow_one(engine: Engine) -> None:
    """Run a task that a decision and a batch add steps to."""
    results = {"decide": decide("split"), "split": split(3)}
    task = await engine.create(GROWS)
    while await engine.state(task) != "complete":
        ready = await engine.claim()
        assert ready
        for step in ready:
            await engine.succeed(step, result=results.get(step.name, {}))
        await engine.process()


def check(plans: Plans) -> None:
    """Everything hot was seen, and nothing of it depends on statistics."""
    called = {name for statement, _ in plans.used for name in HOT if name in statement}
    assert called == HOT
    assert plans.tables() >= GROWING - {"task_transitions", "workflow_step_transitions"}  # only written
    assert plans.flaws() == set()


async def test_plans_without_statistics(explaining: Callable[[], Any]) -> None:
    """A fresh database, whose planner guesses."""
    async with explaining() as (engine, plans):
        await one_round(engine, 0)
        check(plans)


async def test_plans_after_growth_without_statistics(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    """Thousands of rows that nobody has counted."""
    await grow(any_database_url, 1000)
    async with explaining() as (engine, plans):
        await one_round(engine, 0)
        check(plans)


async def test_plans_with_statistics_of_smaller_days(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    """Statistics that say the tables are tiny, and sessions that have planned by them."""
    async with explaining() as (engine, plans):
        await one_round(engine, 0)
        async with engine.database.connection() as connection:
            await connection.execute("ANALYZE")
        plans.used.clear()
        await one_round(engine, 100)
        await grow(any_database_url, 1000)
        await one_round(engine, 200)
        check(plans)
    async with explaining() as (engine, plans):
        await one_round(engine, 300)
        check(plans)
        async with engine.database.connection() as connection:
            await connection.execute("ANALYZE")
        plans.used.clear()
        await one_round(engine, 400)
        check(plans)


async def test_the_sweeper_finds_the_steps_of_lost_leases_by_key(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    """Its look at the leases reads them all: the table is as small as what runs right now."""
    await grow(any_database_url, 300)
    async with explaining() as (engine, plans):
        await engine.sweeper.tick()
        await engine.move_clock(LEASE.total_seconds() + 1)
        plans.used.clear()
        await engine.sweeper.tick()
        assert any("sweep_leases_v1" in statement for statement, _ in plans.used)
        its_look = "Seq Scan on step_leases in: "
        assert [flaw for flaw in plans.flaws() if not flaw.startswith(its_look)] == []


async def test_reading_a_task_does_not_depend_on_statistics(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    """GetTask, GetStep, ListSteps and the streams, in sessions that go on while the tables grow."""
    async with explaining() as (engine, plans):
        (task,) = await create(engine, 0, 1)

        async def read() -> None:
            await engine.reader.get(task)
            first, *_ = (await engine.reader.steps(task)).steps
            await engine.reader.steps(task, after=first.step_uuid, limit=2)
            await engine.reader.step(task, first.step_uuid)
            with pytest.raises(InvalidArgumentError, match="another task"):
                await engine.reader.step(UUID(int=0), first.step_uuid)
            await engine.reader.with_steps(task)
            await engine.transitions.task(task, steps=True)
            all_of_it = await engine.transitions.transitions([Line(task, True, None)])
            seen = Line(task, True, all_of_it.snapshot)
            await engine.transitions.transitions([seen], until=all_of_it.snapshot)
            await engine.moved_tasks.moved([all_of_it.snapshot], most=10)

        for statistics in (False, True):
            if statistics:
                async with engine.database.connection() as connection:
                    await connection.execute("ANALYZE")
            for _ in range(8):  # PostgreSQL keeps a plan after a few times
                await read()
        await grow(any_database_url, 1000)
        plans.used.clear()
        await read()
        assert len(plans.used) >= 9
        assert plans.flaws() == set()


NOBODY = UUID(int=0)
LONG_AGO = TimeRange(end=datetime(2001, 1, 1, tzinfo=UTC))
#: A filter of ListTasks, and the index that finds the few tasks it matches.
INDEXED = (
    (TaskFilter(created_at=LONG_AGO), "tasks_created_idx"),
    (TaskFilter(name="rare"), "tasks_template_idx"),
    (TaskFilter(namespace="rare"), "tasks_template_idx"),
    (TaskFilter(states=[TaskState.ERROR, TaskState.CANCELLED]), "tasks_unsuccessful_idx"),
    (TaskFilter(initiator="rare"), "tasks_initiator_idx"),
    (TaskFilter(source_system="rare"), "tasks_source_system_idx"),
    (TaskFilter(correlation_id=NOBODY), "tasks_correlation_idx"),
    (TaskFilter(parent_correlation_id=NOBODY), "tasks_parent_correlation_idx"),
    (TaskFilter(tags=["rare"]), "tasks_tags_idx"),
    (TaskFilter(tags_any=["rare", "none"]), "tasks_tags_idx"),
)


@pytest.mark.parametrize("statistics", [False, True])
async def test_a_filter_finds_its_tasks_by_its_index(
    any_database_url: str, explaining: Callable[[], Any], statistics: bool
) -> None:
    """ListTasks reads what matches and nothing else, in two or three statements however many rows there are."""
    await grow(any_database_url, 1000)
    async with explaining() as (engine, plans):
        await engine.create(DOCUMENT | {"name": "rare", "namespace_name": "rare"})
        if statistics:
            async with engine.database.connection() as connection:
                await connection.execute("ANALYZE")
        listing = TaskListing(engine.database)
        for wanted, index in INDEXED:
            plans.used.clear()
            await listing.page(wanted, TaskOrder(), limit=50)
            used = {node.get("Index Name") for _, plan in plans.used for node, _ in nodes(plan)}
            assert index in used, (wanted, used)
            assert used.isdisjoint({"tasks_open_idx", "tasks_created_idx"} - {index})
            assert not [flaw for flaw in plans.flaws() if "Seq Scan" in flaw]
            assert len(plans.used) <= 3


async def test_the_few_among_many_are_not_met_by_chance(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    """What nobody has counted looks as if reading in order would soon meet enough of it."""
    async with explaining() as (engine, plans):
        (task,) = await create(engine, 0, 1)
        await engine.database.execute(
            "INSERT INTO tasker.tasks (task_uuid, namespace_id, named_task_uuid, template_digest, correlation_id, "
            "initiator, source_system, reason, tags, requested_at, created_at, updated_at) "
            "SELECT gen_random_uuid(), namespace_id, named_task_uuid, template_digest, correlation_id, initiator, "
            "source_system, reason, ARRAY['label' || n], created_at, created_at, updated_at "
            "FROM tasker.tasks, generate_series(1, 20000) n WHERE task_uuid = %s",
            (task,),
        )
        plans.used.clear()
        page = await TaskListing(engine.database).page(TaskFilter(tags=["label7"]), TaskOrder(), limit=1)
        read = [
            node for _, plan in plans.used for node, _ in nodes(plan) if node.get("Relation Name") == "tasks"
        ]
        assert page.total == 1
        assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read) < 10


@pytest.mark.parametrize("wanted", [TaskFilter(), TaskFilter(name="workflow", namespace="test")])
@pytest.mark.parametrize("descending", [True, False])
async def test_the_first_of_many_tasks_are_read_in_order(
    any_database_url: str,
    explaining: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    wanted: TaskFilter,
    descending: bool,
) -> None:
    monkeypatch.setattr(task_listing, "EXACT_TOTAL", 100)  # more than that are many
    await grow(any_database_url, 1000)
    async with explaining() as (engine, plans):
        await engine.database.execute(
            "ANALYZE"
        )  # without statistics a thousand seem so few that they might as well be sorted
        listing, order = TaskListing(engine.database), TaskOrder(descending=descending)
        tasks = (await listing.page(wanted, order, limit=500)).tasks
        after = LastTask(tasks[-1].created_at, tasks[-1].task_uuid)
        for last in (None, after):
            plans.used.clear()
            page = await listing.page(wanted, order, limit=5, after=last)
            assert len(page.tasks) == 5
            _, plan = plans.used[-1]
            read = [node for node, _ in nodes(plan) if node.get("Relation Name") == "tasks"]
            assert sum(node["Actual Rows"] for node in read) < 200
            assert not [node for node in read if node["Node Type"] == "Seq Scan"]


async def test_no_plan_is_compiled(any_engine: Engine) -> None:
    """A plan that must read a whole small table would count as dear enough until PostgreSQL 17, and take 10 ms more."""
    async with any_engine.database.connection() as connection:
        assert await (await connection.execute("SHOW jit")).fetchall() == [("off",)]
    assert await any_engine.sessions.fetch_value("SHOW jit") == "off"
