"""The plans of analytics and of back-pressure: they read as much of many tasks and messages as of few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tasker.persistence.reading.analytics import AnalyticsReader
from tasker.persistence.reading.backlogs import MOST_EXACT, BacklogReader
from tests.integration.schema.test_plans import Plans, explaining, grow, nodes
from tests.support.engine import Engine, diamond

pytestmark = pytest.mark.own_database

__all__ = ["explaining"]  # a fixture

#: Rows of each growing table that one statement may read: some statements look at two lots of 10,000 tasks.
MOST_TASKS = 20_000
MOST_ROWS = 51_000

_MANY_TASKS = (
    """
    INSERT INTO tasker.tasks
           (task_uuid, namespace_id, named_task_uuid, template_digest, state, sort_key, total_steps, satisfied_steps,
            correlation_id, initiator, source_system, reason, requested_at, created_at, updated_at, completed_at,
            terminal_at)
    SELECT gen_random_uuid(), t.namespace_id, t.named_task_uuid, t.template_digest, 'complete', 1, 1, 1,
           t.correlation_id, t.initiator, t.source_system, t.reason, i.at, i.at, i.at, i.at, i.at
    FROM (SELECT * FROM tasker.tasks LIMIT 1) t, generate_series(1, 100000) AS n,
         LATERAL (SELECT tasker.now() - n * interval '1 millisecond' AS at) i
    """,
    """
    INSERT INTO tasker.workflow_steps
           (task_uuid, step_uuid, name, template_step_name, step_type, handler, state, total_parents, unmet_parents,
            attempts, max_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, max_backoff_ms, created_at,
            updated_at, ancestor_uuids)
    SELECT t.task_uuid, t.task_uuid, s.name, s.template_step_name, s.step_type, s.handler, 'complete', 0, 0, 1, 1, true,
           s.on_worker_lost, s.backoff, 1, 1, t.created_at, t.created_at, '{}'
    FROM tasker.tasks t, (SELECT * FROM tasker.workflow_steps LIMIT 1) s
    WHERE t.state = 'complete'
    """,
    """
    INSERT INTO tasker.step_results
           (task_uuid, step_uuid, sort_key, attempt, success, status, result, metadata, recorded_at)
    SELECT s.task_uuid, s.step_uuid, 1, 1, true, 'completed', '{}', '{"execution_time_ms": 5}', s.created_at
    FROM tasker.workflow_steps s
    WHERE s.task_uuid = s.step_uuid
    """,
)


async def _look(reader: AnalyticsReader) -> None:
    await reader.performance(24)
    await reader.performance(0)
    await reader.bottlenecks()


def _read(plans: Plans) -> dict[str, int]:
    """Return the most rows of each table that one part of a plan went through."""
    read: dict[str, int] = {}
    for _, plan in plans.used:
        for node, _ in nodes(plan):
            if table := node.get("Relation Name"):
                removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
                rows = (node["Actual Rows"] + removed) * node["Actual Loops"]
                read[table] = max(read.get(table, 0), round(rows))
    return read


@pytest.mark.parametrize("statistics", [False, True])
async def test_analytics_read_the_newest_by_index(
    any_database_url: str, explaining: Callable[[], Any], statistics: bool
) -> None:
    """Sessions that have planned while the tables were tiny go on while they hold 100,000 tasks that ended."""
    async with explaining() as (engine, plans):
        reader = AnalyticsReader(engine.sessions)
        await _create_some(any_database_url)
        for _ in range(7):  # PostgreSQL keeps a plan after a few times
            await _look(reader)
        with psycopg.connect(any_database_url, autocommit=True) as connection:  # tells nothing of its plans
            for statement in _MANY_TASKS:
                connection.execute(statement.encode())
            if statistics:
                connection.execute("ANALYZE")
        plans.used.clear()
        await _look(reader)
        assert plans.used
        assert [flaw for flaw in plans.flaws() if not flaw.startswith("all of tasks_open_idx")] == []
        read = _read(plans)
        assert 10_000 <= read["tasks"] <= MOST_TASKS
        assert 10_000 <= read["workflow_steps"] <= MOST_ROWS
        assert 10_000 <= read["step_results"] <= MOST_ROWS
        record = await reader.performance(0)
        assert (record.total, record.is_partial, record.complete > 9_000) == (10_000, True, True)


async def _create_some(url: str) -> None:
    await grow(url, 5)
    async with Engine(url) as engine:
        await engine.sql("SELECT pgmq.purge_queue('worker_test_queue')")


async def test_the_depth_of_a_long_queue_costs_no_more_than_that_of_a_short_one(
    any_database_url: str, explaining: Callable[[], Any]
) -> None:
    async with explaining() as (engine, plans):
        reader = BacklogReader(engine.sessions, ["orchestration_step_results"])
        await engine.create(diamond())
        for _ in range(7):
            await reader.backlogs()
        with psycopg.connect(any_database_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO pgmq.q_worker_test_queue (vt, message) "
                "SELECT clock_timestamp(), '{}' FROM generate_series(1, 50000)"
            )
        plans.used.clear()
        backlogs = {backlog.namespace: backlog.depth for backlog in await reader.backlogs()}
        assert backlogs["test"] >= MOST_EXACT
        assert backlogs[None] == 0
        assert plans.flaws() == set()
        assert _read(plans)["q_worker_test_queue"] == MOST_EXACT
