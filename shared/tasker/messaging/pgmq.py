"""The PGMQ broker: message and state change in one transaction, one SQL function a batch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tasker.domain.leases import LEASE
from tasker.messaging.held import HeldStep, Judgements, json_array
from tasker.messaging.low_water import LowWater
from tasker.messaging.records import (
    Batch,
    ClaimedStep,
    CreatedTask,
    DeletedTasks,
    Lease,
    Reconciled,
    ResultToSubmit,
    SubmittedStep,
    TaskToCreate,
)
from tasker.persistence.database import Database
from tasker.persistence.sessions import Sessions

RESULTS_QUEUE: Final = "orchestration_step_results"
JUDGEMENTS_QUEUE: Final = "orchestration_step_judgements"

#: However many requests of operators an orchestrator gets at once, or running steps of a worker fetch and store what
#: is theirs, they take no more connections than this.
_MOST_REQUESTS: Final = 4

#: Context and dependency results that together take up to this travel with the claim; else they are fetched.
HYDRATION_BYTES: Final = 64 * 1024


def channel(queue: str) -> str:
    """Return the channel on which a queue's readers are woken."""
    return f"tasker_{queue}"


class PgmqWorkerBroker:
    """A worker's side: claim, submit, renew. Claiming and submitting overlap under load, on two sessions then."""

    def __init__(self, database: Database, *, worker_uuid: UUID, refusal_limit: timedelta) -> None:
        self._worker_uuid = worker_uuid
        self._refusal_limit = refusal_limit
        self._sessions = database.sessions()
        self._of_steps = database.sessions(at_most=_MOST_REQUESTS)
        self._low_water: defaultdict[str, LowWater] = defaultdict(LowWater)

    async def claim(
        self, queues: Sequence[str], handlers: Sequence[str], limit: int, *, only: int | None = None
    ) -> list[ClaimedStep]:
        """Claim up to `limit` steps; steps whose handler is not among `handlers` go back with a delay.

        `only` limits it to one message, for the search after a poison message.
        """
        token = uuid4()
        marks = [self._low_water[queue].start() for queue in queues]
        try:
            rows = await self._sessions.fetch_tuples(
                b"SELECT * FROM tasker.claim_steps_v1(%s, %s::bigint[], %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    list(queues),
                    marks,
                    limit,
                    self._worker_uuid,
                    token,
                    LEASE,
                    list(handlers),
                    self._refusal_limit,
                    HYDRATION_BYTES,
                    only,
                ),
            )
        except Exception:
            for queue in queues:
                self._low_water[queue].reset()
            raise
        for queue, msg_id in {(row[0], row[1]) for row in rows}:
            self._low_water[queue].saw(msg_id)
        return [ClaimedStep(token, *row[2:]) for row in rows]

    async def hydrate(self, step: ClaimedStep) -> None:
        """Fetch the context and dependency results that were too large to travel with the claim."""
        rows = await self._of_steps.fetch_tuples(
            b"SELECT * FROM tasker.hydrate_step_v1(%s, %s)", (step.task_uuid, step.step_uuid)
        )
        if rows:
            ((step.context, step.dependencies),) = rows
        step.hydrated = True

    async def submit(self, results: Sequence[ResultToSubmit]) -> set[UUID]:
        """Submit results; return the steps whose result was accepted."""
        rows = await self._sessions.fetch_tuples(
            b"SELECT step_uuid FROM tasker.submit_results_v1(%s::uuid[], %s::uuid[], %s::uuid[], %s::text::jsonb)",
            (
                [result.lease.task_uuid for result in results],
                [result.lease.step_uuid for result in results],
                [result.lease.lease_token for result in results],
                json_array(result.payload for result in results),
            ),
        )
        return {row[0] for row in rows}

    async def checkpoint(self, lease: Lease, checkpoint: str) -> dict[str, Any] | None:
        """Store how far a step has come, as JSON text, and renew its lease.

        Returns:
            The checkpoint as it is stored; None if the lease is lost.
        """
        ((stored,),) = await self._of_steps.fetch_tuples(
            b"SELECT tasker.checkpoint_step_v1(%s, %s, %s, %s, %s::text::jsonb)",
            (lease.task_uuid, lease.step_uuid, lease.lease_token, LEASE, checkpoint),
        )
        return None if stored is None else dict(stored)

    async def renew(self, leases: Sequence[Lease]) -> set[UUID]:
        """Renew leases and the worker's own heartbeat; return the steps whose lease is lost."""
        rows = await self._sessions.fetch_tuples(
            b"SELECT * FROM tasker.renew_leases_v1(%s, %s::uuid[], %s::uuid[], %s::uuid[], %s)",
            (
                self._worker_uuid,
                [lease.task_uuid for lease in leases],
                [lease.step_uuid for lease in leases],
                [lease.lease_token for lease in leases],
                LEASE,
            ),
        )
        return {row[0] for row in rows}

    async def visible(self, queue: str, limit: int) -> list[int]:
        """Return the ids of the oldest visible messages."""
        return await _visible(self._sessions, queue, limit)

    async def register(
        self, *, hostname: str, version: str, namespaces: Sequence[str], handlers: Sequence[str], slots: int
    ) -> None:
        """Announce this worker, what it serves and what it can run."""
        await self._sessions.fetch_tuples(
            b"SELECT tasker.register_worker_v1(%s, %s, %s, %s, %s, %s)",
            (self._worker_uuid, hostname, version, list(namespaces), list(handlers), slots),
        )

    async def retire(self) -> None:
        """Say that this worker runs no more."""
        await self._sessions.fetch_tuples(b"SELECT tasker.retire_worker_v1(%s)", (self._worker_uuid,))

    async def record_poison(self, queue: str, msg_id: int, error: str) -> bool:
        """Take a message that cannot be claimed out of its queue."""
        return await _record_poison(self._sessions, queue, msg_id, error)

    async def close(self) -> None:
        """Close all sessions."""
        await self._sessions.close()
        await self._of_steps.close()


class PgmqOrchestrationBroker:
    """An orchestrator's side: create tasks, process results, judge, act for operators."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions()
        self._requests = database.sessions(at_most=_MOST_REQUESTS)
        self._sweeps = database.session()
        self._results_mark = LowWater()
        self._judgements_mark = LowWater()

    async def create(self, environment: str, tasks: Sequence[TaskToCreate]) -> dict[UUID, CreatedTask]:
        """Create tasks in one transaction; conflicting identities are refused one by one."""
        rows = await self._sessions.fetch_tuples(
            b"SELECT * FROM tasker.create_tasks_v1(%s, %s::text::jsonb, %s::text::jsonb)",
            (
                environment,
                json.dumps([_task_object(task, place) for place, task in enumerate(tasks)]),
                json_array(task.context for task in tasks),
            ),
        )
        return {row[0]: CreatedTask(*row) for row in rows}

    async def process_results(self, limit: int, *, only: int | None = None) -> Batch:
        """Complete the steps of up to `limit` plain successes, or of one message, and advance their tasks."""
        try:
            ((handled, delayed, top),) = await self._sessions.fetch_tuples(
                b"SELECT handled, delayed, top_msg_id FROM tasker.process_results_v1(%s, %s, %s)",
                (limit, self._results_mark.start(), only),
            )
        except Exception:
            self._results_mark.reset()
            raise
        self._results_mark.saw(top)
        return Batch(handled, delayed)

    @asynccontextmanager
    async def judgements(self, limit: int, *, only: int | None = None) -> AsyncIterator[Judgements]:
        """Take results that need judgement, in one transaction with `Judgements.apply`."""
        try:
            async with self._sessions.transaction() as transaction:
                connection = transaction.connection
                cursor = await connection.execute(
                    b"SELECT * FROM tasker.take_judgements_v1(%s, %s, %s)",
                    (limit, self._judgements_mark.start(), only),
                )
                rows = await cursor.fetchall()
                self._judgements_mark.saw(rows[0][0])
                steps = [SubmittedStep(*row[2:]) for row in rows if row[3] is not None]
                yield Judgements(connection, steps, delayed=rows[0][1])
        except Exception:
            self._judgements_mark.reset()
            raise

    async def visible(self, queue: str, limit: int) -> list[int]:
        """Return the ids of the oldest visible messages."""
        return await _visible(self._sessions, queue, limit)

    async def record_poison(self, queue: str, msg_id: int, error: str) -> bool:
        """Take a message that cannot be processed out of its queue; its step moves to `error`."""
        return await _record_poison(self._sessions, queue, msg_id, error)

    async def wake_tasks(self, limit: int) -> tuple[int, float | None, list[UUID]]:
        """Look again at tasks whose timer is due, and cancel those that have expired.

        Returns how many were due, in how many seconds the next one is, and which have expired.
        """
        ((woken, due_ms, expired),) = await self._sessions.fetch_tuples(
            b"SELECT woken, next_due_ms, expired FROM tasker.wake_tasks_v1(%s)", (limit,)
        )
        return woken, None if due_ms is None else due_ms / 1000, expired

    async def cancel(self, task_uuid: UUID, metadata: Mapping[str, Any]) -> tuple[str, bool] | None:
        """Cancel a task; return the state it was in and whether this cancelled it, None if there is none."""
        ((state, cancelled),) = await self._requests.fetch_tuples(
            b"SELECT from_state, cancelled FROM tasker.cancel_task_v1(%s, %s)", (task_uuid, Jsonb(metadata))
        )
        return None if state is None else (state, cancelled)

    async def resume(self, task_uuid: UUID, metadata: Mapping[str, Any]) -> tuple[str, int, bool] | None:
        """Resume a task in `error`; return its state, its failed steps and whether it goes on; None: no such task."""
        ((state, failed, resumed),) = await self._requests.fetch_tuples(
            b"SELECT from_state, failed, resumed FROM tasker.resume_by_hand_v1(%s, %s)",
            (task_uuid, Jsonb(metadata)),
        )
        return None if state is None else (state, failed, resumed)

    @asynccontextmanager
    async def held_step(self, task_uuid: UUID, step_uuid: UUID) -> AsyncIterator[HeldStep]:
        """Hold a task and one of its steps, in one transaction with `HeldStep.move`."""
        async with self._requests.transaction() as transaction:
            connection = transaction.connection
            cursor = await connection.execute(
                b"SELECT task_state, step_state, name, step_type FROM tasker.lock_step_v1(%s, %s)",
                (task_uuid, step_uuid),
            )
            ((task_state, step_state, name, step_type),) = await cursor.fetchall()
            yield HeldStep(
                connection,
                task_uuid,
                step_uuid,
                task_state=task_state,
                step_state=step_state,
                name=name,
                step_type=step_type,
            )

    async def sweeping_session(self) -> tuple[int, datetime]:
        """Return how many times the session that sweeps has connected, and the engine's clock."""
        ((now,),) = await self._sweeps.fetch_tuples(b"SELECT tasker.now()")
        assert isinstance(now, datetime)
        return self._sweeps.connected_times, now

    async def sweep_leases(self, limit: int) -> int:
        """Submit `worker_lost` for steps whose lease has expired; return how many."""
        ((lost,),) = await self._sweeps.fetch_tuples(b"SELECT tasker.sweep_leases_v1(%s, %s)", (limit, LEASE))
        return int(lost)

    async def reconcile(self, after: UUID, limit: int, grace: timedelta) -> list[Reconciled]:
        """Recompute what open tasks keep about themselves, evaluate them and repair their messages."""
        rows = await self._sessions.fetch_tuples(
            b"SELECT * FROM tasker.reconcile_tasks_v1(%s, %s, %s) ORDER BY task_uuid", (after, limit, grace)
        )
        return [Reconciled(*row) for row in rows]

    async def delete_old_tasks(self, limit: int, age: timedelta, after: UUID) -> DeletedTasks:
        """Look at up to `limit` tasks behind `after`, oldest first, and delete those that ended `age` ago or more."""
        ((last, rows),) = await self._sessions.fetch_tuples(
            b"SELECT last_uuid, deleted FROM tasker.delete_old_tasks_v1(%s, %s, %s)", (limit, age, after)
        )
        return DeletedTasks(last, rows)

    async def delete_old_poison(self, limit: int, age: timedelta) -> int:
        """Delete up to `limit` poison records of `age` or more that no task needs; return how many."""
        ((deleted,),) = await self._sessions.fetch_tuples(
            b"SELECT tasker.delete_old_poison_v1(%s, %s)", (limit, age)
        )
        return int(deleted)

    async def close(self) -> None:
        """Close all sessions."""
        await self._sessions.close()
        await self._requests.close()
        await self._sweeps.close()


async def _visible(sessions: Sessions, queue: str, limit: int) -> list[int]:
    rows = await sessions.fetch_tuples(b"SELECT * FROM tasker.visible_messages_v1(%s, %s)", (queue, limit))
    return [msg_id for (msg_id,) in rows]


async def _record_poison(sessions: Sessions, queue: str, msg_id: int, error: str) -> bool:
    ((recorded,),) = await sessions.fetch_tuples(
        b"SELECT tasker.record_poison_v1(%s, %s, %s)", (queue, msg_id, error)
    )
    return bool(recorded)


def _task_object(task: TaskToCreate, place: int) -> dict[str, Any]:
    """Return the object that create_tasks_v1 reads; its context, which is JSON text already, goes beside it."""
    return {
        "task_uuid": str(task.task_uuid),
        "namespace_id": task.namespace_id,
        "named_task_uuid": str(task.named_task_uuid),
        "template_digest": task.template_digest.hex(),
        "identity": task.identity.hex() if task.identity else None,
        "priority": task.priority,
        "correlation_id": str(task.correlation_id),
        "parent_correlation_id": str(task.parent_correlation_id) if task.parent_correlation_id else None,
        "initiator": task.initiator,
        "source_system": task.source_system,
        "reason": task.reason,
        "tags": task.tags,
        "ttl": f"{task.ttl.total_seconds()} seconds" if task.ttl else None,
        "step_uuids": [str(step) for step in task.step_uuids],
        "context": place,
    }
