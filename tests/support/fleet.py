"""Orchestrators and workers as processes, on a folder of their own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from grpc import StatusCode, aio

from tasker.domain.retry import LEASE
from tests.support.clients import Client
from tests.support.engine import chain, graph
from tests.support.processes import ServiceProcess, stop_all
from tests.support.services import write_templates
from tests.support.waiting import until
from tests.support.warmth import WARMTH

#: A step may be lost often here, and runs again at once.
STUBBORN = {"retry": {"max_attempts": 50, "backoff": "none"}}
#: Branches that end at the same moment, on different workers, are what orchestrators race for.
WIDE = {"start": [], **{f"branch{n}": ["start"] for n in range(5)}, "end": [f"branch{n}" for n in range(5)]}
TEMPLATES = (chain(4, **STUBBORN), graph(WIDE, **STUBBORN) | {"name": "wide"})


def _ways(direct: Sequence[bool], workers: int) -> list[dict[str, str]]:
    return [
        {"TASKER_WORKER_DIRECT_COMPLETION": str(n >= len(direct) or direct[n]).lower()}
        for n in range(workers)
    ]


class Fleet:
    """Any number of processes on one database.

    Attributes:
        folder: For sockets, logs and whatever handlers write.
        orchestrators: All of them.
        workers: All of them.
    """

    def __init__(
        self,
        database_url: str,
        *,
        orchestrators: int = 1,
        workers: int = 1,
        direct: Sequence[bool] = (),
        slots: int = 3,  # so that the work lasts as long as the chaos
        templates: Sequence[Mapping[str, Any]] = TEMPLATES,
    ) -> None:
        """`direct` says which workers complete steps themselves, from the first on; those it leaves out do."""
        WARMTH.end()  # many processes, and what is left of those that were killed
        self._url = database_url
        self.folder = Path(tempfile.mkdtemp(prefix="tasker-"))  # a socket's path must be short
        environment = {
            "DATABASE_URL": database_url,
            "TASKER_TEMPLATE_PATH": str(write_templates(self.folder / "templates", *templates)),
            "PYTHON_HANDLER_PATH": str(Path(__file__).with_name("fleet_handlers.py")),
            "TASKER_SHUTDOWN_TIMEOUT_SECONDS": "10",
            "TASKER_WORKER_SLOTS": str(slots),
            "CHAOS_FOLDER": str(self.folder),
        }
        self.orchestrators = [
            ServiceProcess("orchestration", f"orchestration{n}", self.folder, environment)
            for n in range(orchestrators)
        ]
        self.workers = [
            ServiceProcess("worker", f"worker{n}", self.folder, environment | way)
            for n, way in enumerate(_ways(direct, workers))
        ]

    @property
    def processes(self) -> list[ServiceProcess]:
        """Orchestrators and workers."""
        return [*self.orchestrators, *self.workers]

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(process.start() for process in self.processes))
            await self.ready()
        except BaseException:
            await stop_all(self.processes)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_all(self.processes)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def ready(self) -> None:
        """Wait until every process answers."""
        await asyncio.gather(*(process.ready() for process in self.processes))

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Client]]:
        """Connect to each orchestrator."""
        clients = [Client(process.address) for process in self.orchestrators]
        try:
            yield clients
        finally:
            for client in clients:
                await client.channel.close(None)

    async def create(self, clients: Sequence[Client], number: int, *, name: str) -> str:
        """Create a task, on one orchestrator or another, as often as it takes; return its uuid."""
        tried = 0

        async def created() -> str | None:
            nonlocal tried
            client = clients[(number + tried) % len(clients)]
            tried += 1
            try:
                task = await client.create(name=name, context={"n": number}, idempotency_key=f"task {number}")
            except aio.AioRpcError as error:
                if error.code() is not StatusCode.UNAVAILABLE:
                    raise
                return None
            return task.task_uuid

        return str(await until(created, what=f"task {number} created"))

    async def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """Run a statement."""
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            return await (await connection.execute(query.encode(), params)).fetchall()

    async def expire_leases(self) -> None:
        """Move the clock beyond every lease."""
        await self.sql("UPDATE tasker.clock SET shift = shift + %s RETURNING 1", LEASE + LEASE / 30)

    async def finish(self, *, tasks: int) -> None:
        """Wait until this many tasks are complete, with leases that last seconds instead of half a minute."""
        looks = 0

        async def complete() -> bool:
            nonlocal looks
            if looks % 100 == 99:  # some two seconds
                await self.expire_leases()
            looks += 1
            ((done,),) = await self.sql("SELECT count(*) FROM tasker.tasks WHERE state = 'complete'")
            return bool(done == tasks)

        await until(complete, seconds=60, what=f"{tasks} tasks complete")


async def violations(fleet: Fleet) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is wrong with a database whose tasks are all complete; wait for its queues to run empty."""

    async def quiet() -> bool:
        ((left,),) = await fleet.sql(
            "SELECT (SELECT count(*) FROM pgmq.q_worker_test_queue) + (SELECT count(*) FROM "
            "pgmq.q_orchestration_step_results) + (SELECT count(*) FROM pgmq.q_orchestration_step_judgements)"
        )
        return bool(left == 0)

    await until(quiet, what="empty queues")
    return {what: rows for what, query in _VIOLATIONS.items() if (rows := await fleet.sql(query))}


_VIOLATIONS = {
    "a task that is not complete": "SELECT task_uuid, state FROM tasker.tasks WHERE state <> 'complete'",
    "a step that is not complete": "SELECT step_uuid, state FROM tasker.workflow_steps WHERE state <> 'complete'",
    "a step that did not become complete exactly once": """
        SELECT s.step_uuid, s.name, count(t.sort_key) FROM tasker.workflow_steps s
        LEFT JOIN tasker.workflow_step_transitions t
            ON t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid AND t.to_state = 'complete'
        GROUP BY s.step_uuid, s.name HAVING count(t.sort_key) <> 1""",
    "a task that did not become complete exactly once": """
        SELECT k.task_uuid, count(t.sort_key) FROM tasker.tasks k LEFT JOIN tasker.task_transitions t
            ON t.task_uuid = k.task_uuid AND t.to_state = 'complete'
        GROUP BY k.task_uuid HAVING count(t.sort_key) <> 1""",
    "a step that succeeded more than once": """
        SELECT step_uuid, count(*) FROM tasker.step_results WHERE success GROUP BY step_uuid HAVING count(*) <> 1""",
    "a step whose attempts are not its executions": """
        SELECT s.step_uuid, s.attempts, count(t.sort_key) FROM tasker.workflow_steps s
        LEFT JOIN tasker.workflow_step_transitions t
            ON t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid AND t.to_state = 'in_progress'
        GROUP BY s.step_uuid, s.attempts HAVING count(t.sort_key) <> s.attempts""",
    "a step history with a gap": """
        SELECT s.step_uuid, s.sort_key, array_agg(t.sort_key ORDER BY t.sort_key)
        FROM tasker.workflow_steps s JOIN tasker.workflow_step_transitions t USING (task_uuid, step_uuid)
        GROUP BY s.step_uuid, s.sort_key
        HAVING array_agg(t.sort_key ORDER BY t.sort_key) <> ARRAY(SELECT generate_series(1, s.sort_key))""",
    "a task history with a gap": """
        SELECT k.task_uuid, k.sort_key, array_agg(t.sort_key ORDER BY t.sort_key)
        FROM tasker.tasks k JOIN tasker.task_transitions t USING (task_uuid)
        GROUP BY k.task_uuid, k.sort_key
        HAVING array_agg(t.sort_key ORDER BY t.sort_key) <> ARRAY(SELECT generate_series(1, k.sort_key))""",
    "a transition that does not begin where the last one ended": """
        SELECT step_uuid, sort_key, from_state, before FROM (
            SELECT t.*, lag(to_state, 1, 'pending') OVER (PARTITION BY task_uuid, step_uuid ORDER BY sort_key) AS before
            FROM tasker.workflow_step_transitions t) t
        WHERE from_state <> before
        UNION ALL
        SELECT task_uuid, sort_key, from_state, before FROM (
            SELECT t.*, lag(to_state, 1, 'pending') OVER (PARTITION BY task_uuid ORDER BY sort_key) AS before
            FROM tasker.task_transitions t) t
        WHERE from_state <> before""",
    "a child that began before its parents were complete": """
        SELECT e.to_step_uuid, begun.at, done.at FROM tasker.workflow_step_edges e
        CROSS JOIN LATERAL (SELECT min(t.created_at) AS at FROM tasker.workflow_step_transitions t
            WHERE t.task_uuid = e.task_uuid AND t.step_uuid = e.to_step_uuid AND t.to_state = 'enqueued') begun
        CROSS JOIN LATERAL (SELECT max(t.created_at) AS at FROM tasker.workflow_step_transitions t
            WHERE t.task_uuid = e.task_uuid AND t.step_uuid = e.from_step_uuid AND t.to_state = 'complete') done
        WHERE begun.at < done.at""",
    "a task whose counts are wrong": """
        SELECT task_uuid, total_steps, satisfied_steps, failed_steps, in_flight_steps, backoff_steps FROM tasker.tasks
        WHERE (satisfied_steps, failed_steps, in_flight_steps, backoff_steps) <> (total_steps, 0, 0, 0)
           OR total_steps <> (SELECT count(*) FROM tasker.workflow_steps s WHERE s.task_uuid = tasks.task_uuid)
           OR wake_at IS NOT NULL OR completed_at IS NULL""",
    "a step that still waits for a parent": "SELECT step_uuid FROM tasker.workflow_steps WHERE unmet_parents <> 0",
    "a lease that is left": "SELECT * FROM tasker.step_leases",
    "a message that was put aside": "SELECT * FROM tasker.poison_messages",
}
