"""The engine driven by hand: create, claim, submit, process, move the clock, look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from tasker.domain.templates.document import Template
from tasker.domain.templates.expansion import DecisionLimits
from tasker.domain.templates.validation import parse
from tasker.domain.uuids import uuid7
from tasker.messaging.claim_order import ClaimOrder
from tasker.messaging.pgmq import PgmqOrchestrationBroker, PgmqWorkerBroker
from tasker.messaging.queues import worker_queue
from tasker.orchestration.engine.catalogue import TemplateCatalogue
from tasker.orchestration.engine.creation import Creation, NewTask, TaskCreator
from tasker.orchestration.engine.expansion import BatchLimits, Expander
from tasker.orchestration.engine.judge import Judge
from tasker.orchestration.engine.operators import Operators
from tasker.orchestration.engine.revisions import PlannedRevisions
from tasker.orchestration.loops.judgements import JudgementLoop
from tasker.orchestration.loops.reconciler import Reconciler
from tasker.orchestration.loops.results import ResultLoop
from tasker.orchestration.loops.sweeper import LeaseSweeper
from tasker.orchestration.loops.timers import TimerLoop
from tasker.persistence.connections import Row
from tasker.persistence.database import Database
from tasker.persistence.operations.checkpoint import checkpoint_step
from tasker.persistence.operations.claim import ClaimedStep, hydrate_step
from tasker.persistence.operations.create import CreatedTask, TaskToCreate, create_tasks
from tasker.persistence.operations.finish import FinishedSteps, NextClaims
from tasker.persistence.operations.reconcile import ReconciledTask, reconcile_tasks
from tasker.persistence.operations.register import register_template
from tasker.persistence.operations.renew import Lease, renew_leases
from tasker.persistence.operations.retain import DeletedTasks, delete_old_tasks
from tasker.persistence.operations.submit import ResultToSubmit
from tasker.persistence.operations.sweep import sweep_leases
from tasker.persistence.operations.timers import FiredTimers, fire_timers
from tasker.persistence.operations.workers import beat, register_worker, retire_worker
from tasker.persistence.reading.moved_tasks import MovedTaskReader
from tasker.persistence.reading.tasks import TaskReader
from tasker.persistence.reading.templates import TemplateReader
from tasker.persistence.reading.transitions import TransitionReader
from tasker.persistence.scratch import MOVE_CLOCK
from tasker.persistence.sessions import MOST_REQUESTS

NAMESPACE = "test"


def chain(length: int = 3, **step: Any) -> dict[str, Any]:
    """Return a template of steps `s1` to `sN` in a row; `step` adds keys to each."""
    return graph({f"s{n}": [f"s{n - 1}"] if n > 1 else [] for n in range(1, length + 1)}, **step)


def diamond(**step: Any) -> dict[str, Any]:
    """Return a template `start` - `left`, `right` - `end`."""
    return graph({"start": [], "left": ["start"], "right": ["start"], "end": ["left", "right"]}, **step)


def graph(parents: Mapping[str, Sequence[str]], **step: Any) -> dict[str, Any]:
    """Return a template with these steps and dependencies, all run by the handler `work`."""
    return {
        "name": "workflow",
        "namespace_name": NAMESPACE,
        "version": "1.0.0",
        "identity_strategy": "always_unique",
        "steps": [
            {"name": name, "dependencies": list(above), "handler": "work"} | step
            for name, above in parents.items()
        ],
    }


@dataclass(slots=True)
class StepView:
    """A step as the database has it."""

    step_uuid: UUID
    state: str
    attempts: int


WORKER_QUEUE = worker_queue(NAMESPACE)


class Engine:
    """Brokers and loops on one database, without background tasks. Jitter is 0 unless set.

    Args:
        database_url: The database.
        environment: Whose plans of the templates it uses.
        decisions, batches: How far decisions and batches may go; the usual limits by default.
        direct: Whether `succeed` and `fail` take the short way, though no step is claimed with them.
    """

    def __init__(
        self,
        database_url: str,
        *,
        environment: str = "test",
        decisions: DecisionLimits | None = None,
        batches: BatchLimits | None = None,
        direct: bool = False,
    ) -> None:
        self.url = database_url
        self.direct = direct
        self.jitter = 0.0
        self.database = Database(database_url, application_name="test", max_size=4)
        self.sessions = self.database.sessions()
        self.requests = self.database.sessions(at_most=MOST_REQUESTS)
        self.sweeping = self.database.session()
        self.orchestration = PgmqOrchestrationBroker(self.sessions)
        self.worker_uuid = uuid7()
        self.worker_sessions = self.database.sessions()
        self.worker_requests = self.database.sessions(at_most=MOST_REQUESTS)
        self.worker = PgmqWorkerBroker(
            self.worker_sessions, worker_uuid=self.worker_uuid, refusal_limit=timedelta(seconds=60)
        )
        self.templates = TemplateReader(self.database)
        self.reader = TaskReader(self.database)
        self.transitions = TransitionReader(self.database)
        self.moved_tasks = MovedTaskReader(self.database)
        revisions = PlannedRevisions(self.database, environment)
        self.creator = TaskCreator(
            TemplateCatalogue(self.database, revisions.of()),
            self.sessions,
            self.reader,
            environment=environment,
        )
        self.expander = Expander(
            revisions,
            decisions=decisions or DecisionLimits(),
            batches=batches or BatchLimits(),
        )
        self.operators = Operators(self.requests, self.expander)
        self.results = ResultLoop(self.orchestration)
        self.judgements = JudgementLoop(self.orchestration, Judge(lambda: self.jitter), self.expander)
        self.timers = TimerLoop(self.sessions)
        self.sweeper = LeaseSweeper(self.sweeping)
        self.reconciler = Reconciler(self.sessions)

    async def __aenter__(self) -> Self:
        await self.database.open()
        await self.creator.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.creator.stop()
        await self.disconnect()
        await self.transitions.close()
        await self.moved_tasks.close()
        await self.database.close()

    async def disconnect(self) -> None:
        """Close all sessions; the next calls open new ones."""
        for sessions in (
            self.sessions, self.requests, self.sweeping, self.worker_sessions, self.worker_requests
        ):  # fmt: skip
            await sessions.close()

    async def register(self, document: Mapping[str, Any]) -> Template:
        """Register a template."""
        template = parse(document)
        await register_template(self.database, template)
        return template

    async def create(
        self, document: Mapping[str, Any], context: Mapping[str, Any] | None = None, **more: Any
    ) -> UUID:
        """Register a template and create a task of it."""
        template = await self.register(document)
        return (await self.request(template, context, **more)).task.task_uuid

    async def request(
        self, template: Template, context: Mapping[str, Any] | None = None, **more: Any
    ) -> Creation:
        """Create a task of a registered template."""
        return await self.creator.create(
            NewTask(template.namespace_name, template.name, template.version, context, **more)
        )

    async def claim(self, limit: int = 100, *, handlers: Sequence[str] = ("work",)) -> list[ClaimedStep]:
        """Claim what is enqueued."""
        return await self.worker.claim(ClaimOrder([NAMESPACE]).queues(), handlers, limit)

    async def succeed(self, *steps: ClaimedStep, result: object = None) -> set[UUID]:
        """Submit successes; return the accepted ones."""
        return await self.submit([success(step, {} if result is None else result) for step in steps])

    async def fail(self, *steps: ClaimedStep, retryable: bool = True, **more: Any) -> set[UUID]:
        """Submit failures; return the accepted ones."""
        return await self.submit([failure(step, retryable=retryable, **more) for step in steps])

    async def submit(self, results: Sequence[ResultToSubmit]) -> set[UUID]:
        """Submit results; return the steps whose result was accepted."""
        return (await self.finish(*results)).accepted if self.direct else await self.worker.submit(results)

    async def finish(
        self,
        *results: ResultToSubmit,
        limit: int = 0,
        queues: Sequence[str] = (WORKER_QUEUE,),
        handlers: Sequence[str] = ("work",),
    ) -> FinishedSteps:
        """Submit, complete at once what may be, and claim up to `limit` of the steps that follow."""
        return await self.worker.finish(results, NextClaims(limit, queues, handlers))

    async def process(self) -> None:
        """Process and judge everything that was submitted."""
        while await self.messages("orchestration_step_results") or await self.messages(
            "orchestration_step_judgements"
        ):
            await self.results.tick()
            await self.judgements.tick()

    async def create_tasks(self, tasks: Sequence[TaskToCreate]) -> dict[UUID, CreatedTask]:
        """Create tasks whose templates are planned."""
        return await create_tasks(self.sessions, "test", tasks)

    async def fire_timers(self, limit: int) -> FiredTimers:
        """Look at tasks whose timer is due."""
        return await fire_timers(self.sessions, limit)

    async def sweep_leases(self, limit: int) -> int:
        """Submit a failure for steps whose lease has expired; return for how many."""
        return await sweep_leases(self.sweeping, limit)

    async def reconcile(self, after: UUID, limit: int, grace: timedelta) -> list[ReconciledTask]:
        """Repair what tasks keep about themselves."""
        return await reconcile_tasks(self.sessions, after, limit, grace)

    async def delete_old_tasks(self, limit: int, age: timedelta, after: UUID) -> DeletedTasks:
        """Delete what ended long ago."""
        return await delete_old_tasks(self.sessions, limit, age, after)

    async def renew(self, leases: Sequence[Lease]) -> set[UUID]:
        """Renew leases; return the steps whose lease is lost."""
        return await renew_leases(self.worker_sessions, leases)

    async def beat(self, *, slots_in_use: int) -> bool:
        """Say that the worker lives; False if somebody has locked the workers."""
        return await beat(self.worker_sessions, self.worker_uuid, slots_in_use=slots_in_use)

    async def checkpoint(self, lease: Lease, checkpoint: str) -> dict[str, Any] | None:
        """Store how far a step has come."""
        return await checkpoint_step(self.worker_requests, lease, checkpoint)

    async def hydrate(self, step: ClaimedStep) -> None:
        """Fetch what did not travel with a claim."""
        await hydrate_step(self.worker_requests, step)

    async def register_worker(
        self,
        *,
        namespaces: Sequence[str],
        handlers: Sequence[str] = ("work",),
        hostname: str = "here",
        version: str = "1",
        slots: int = 1,
    ) -> None:
        """Announce the worker."""
        await register_worker(
            self.worker_sessions,
            self.worker_uuid,
            hostname=hostname,
            version=version,
            namespaces=namespaces,
            handlers=handlers,
            slots=slots,
        )

    async def retire_worker(self) -> None:
        """Say that the worker runs no more."""
        await retire_worker(self.worker_sessions, self.worker_uuid)

    async def run(self, task_uuid: UUID, *, rounds: int = 100) -> None:
        """Claim, succeed and process until the task is over."""
        for _ in range(rounds):
            if (await self.state(task_uuid)) in ("complete", "error", "cancelled"):
                return
            await self.succeed(*await self.claim())
            await self.process()
        raise AssertionError(f"task is still {await self.state(task_uuid)} after {rounds} rounds")

    async def move_clock(self, seconds: float) -> None:
        """Move the engine's clock, forward or back."""
        await self.database.execute(MOVE_CLOCK, (seconds,))

    async def freeze_clock(self) -> None:
        """Let the engine's clock stand still, an hour ahead: from now on only `move_clock` moves it."""
        ((definition, instant),) = await self.sql(
            "SELECT pg_get_functiondef('tasker.now'::regproc), clock_timestamp() + interval '1 hour'"
        )
        assert "clock_timestamp()" in definition
        frozen = definition.replace("clock_timestamp()", f"'{instant.isoformat()}'::timestamptz")
        await self.database.execute(frozen)

    async def state(self, task_uuid: UUID) -> str:
        """Return a task's state."""
        ((state,),) = await self.sql("SELECT state FROM tasker.tasks WHERE task_uuid = %s", task_uuid)
        return str(state)

    async def steps(self, task_uuid: UUID) -> dict[str, StepView]:
        """Return a task's steps by name."""
        rows = await self.sql(
            "SELECT name, step_uuid, state, attempts FROM tasker.workflow_steps WHERE task_uuid = %s",
            task_uuid,
        )
        return {name: StepView(*rest) for name, *rest in rows}

    async def states(self, task_uuid: UUID) -> dict[str, str]:
        """Return the states of a task's steps by name."""
        return {name: step.state for name, step in (await self.steps(task_uuid)).items()}

    async def messages(self, queue: str) -> int:
        """Return how many messages a queue holds."""
        ((count,),) = await self.sql(f"SELECT count(*) FROM pgmq.q_{queue}")
        return int(count)

    async def sql(self, query: str, *params: object) -> list[Row]:
        """Run any statement."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(query.encode(), params)
            return await cursor.fetchall() if cursor.description else []


def success(step: ClaimedStep, result: object, **more: Any) -> ResultToSubmit:
    """Return a success as a worker sends it."""
    return _result(step, **{"success": True, "status": "completed", "result": result} | more)


def failure(step: ClaimedStep, *, retryable: bool = True, **more: Any) -> ResultToSubmit:
    """Return a failure as a worker sends it."""
    error = {"message": "it broke", "error_type": "handler_error", "retryable": retryable}
    metadata = {"retryable": retryable, "execution_time_ms": 1}
    return _result(
        step,
        **{"success": False, "status": "failed", "result": {}, "error": error, "metadata": metadata} | more,
    )


def _result(step: ClaimedStep, **more: Any) -> ResultToSubmit:
    fields = {
        "step_uuid": str(step.step_uuid),
        "error": None,
        "metadata": {"execution_time_ms": 1, "worker_id": "worker_test"},
        "orchestration_metadata": None,
    }
    return ResultToSubmit(step.lease, json.dumps(fields | more), more["success"])


def submission(result: ResultToSubmit) -> tuple[str, UUID, UUID, UUID, str]:
    """Return the statement that submits one result, and its parameters."""
    lease = result.lease
    statement = "SELECT 1 FROM tasker.submit_results_v1(ARRAY[%s], ARRAY[%s], ARRAY[%s], jsonb_build_array(%s::jsonb))"
    return statement, lease.task_uuid, lease.step_uuid, lease.lease_token, result.payload
