"""Templates with decisions and batches in a few words, and what their handlers return."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

from tasker.persistence.operations.claim import ClaimedStep
from tests.support.engine import NAMESPACE, Engine, success

#: Where a transaction can be made to wait: while it adds steps, while it completes one, and while it commits that, when
#: no death of its client can stop it any more.
_BRAKES: Final = {
    "adding": ("workflow_steps", "IMMEDIATE", "true"),
    "completing": ("workflow_step_transitions", "IMMEDIATE", "NEW.to_state = 'complete'"),
    "committing": ("workflow_steps", "DEFERRED", "true"),
    "finishing": ("workflow_step_transitions", "DEFERRED", "NEW.to_state = 'complete'"),
}

#: Takes the lock that transactions wait for at a brake.
PULL: Final = "SELECT pg_advisory_xact_lock(40)"

_STEP: Final = re.compile(r"(?P<name>\w+)(?:: (?P<type>\w+))?(?: < (?P<parents>.*))?")


def workflow(*steps: str, **more: Any) -> dict[str, Any]:
    """Return a template of steps written as `name: type < parent parent`; `more` adds keys to steps by name."""
    found = [match.groupdict() for step in steps if (match := _STEP.fullmatch(step))]
    assert len(found) == len(steps)
    return {
        "name": "workflow",
        "namespace_name": NAMESPACE,
        "version": "1.0.0",
        "identity_strategy": "always_unique",
        "steps": [
            {
                "name": step["name"],
                "type": step["type"] or "standard",
                "dependencies": (step["parents"] or "").split(),
                "handler": "work",
            }
            | more.get(step["name"], {})
            for step in found
        ],
    }


def decide(*names: str) -> dict[str, Any]:
    """Return the result of a decision that names steps; without names, of one that takes no branch."""
    outcome = {"type": "create_steps", "step_names": list(names)} if names else {"type": "no_branches"}
    return {"decision_point_outcome": outcome}


def split(count: int, *, size: int = 10, worker: str | None = None) -> dict[str, Any]:
    """Return the result of a batchable step that makes some batches of equal size; of none: nothing to do."""
    if count == 0:
        return {"batch_processing_outcome": {"type": "no_batches"}}
    outcome = {
        "type": "create_batches",
        "worker_count": count,
        "cursor_configs": [
            {
                "batch_id": f"{n:03}",
                "start_cursor": (n - 1) * size,
                "end_cursor": n * size,
                "batch_size": size,
            }
            for n in range(1, count + 1)
        ],
        "total_items": count * size,
    }
    return {"batch_processing_outcome": outcome | ({"worker_template_name": worker} if worker else {})}


class Hands:
    """A worker that ends the steps it runs in the order a test likes; the names of all tasks' steps must differ."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[str, ClaimedStep] = {}

    async def running(self) -> set[str]:
        """Claim whatever is enqueued; return the names of all steps that run now."""
        self._running |= {step.name: step for step in await self._engine.claim(10_000)}
        return set(self._running)

    async def take(self, name: str) -> ClaimedStep:
        """Return a step that runs; whoever takes it ends it."""
        running = await self.running()
        assert name in running, f"{name} is not among {sorted(running)}"
        return self._running.pop(name)

    async def submit(self, name: str, result: object = None) -> None:
        """Let a step succeed, without having that processed; its result is what is given, null too."""
        step = await self.take(name)
        assert await self._engine.worker.submit([success(step, result)]) == {step.step_uuid}

    async def succeed(self, *names: str, result: object = None) -> None:
        """Let steps succeed, one after the other."""
        for name in names:
            await self.submit(name, {} if result is None else result)
            await self._engine.process()

    async def fail(self, *names: str, retryable: bool = False, **more: Any) -> None:
        """Let steps fail, for good unless they are to be tried again."""
        for name in names:
            await self._engine.fail(await self.take(name), retryable=retryable, **more)
            await self._engine.process()

    async def finish(self, **results: object) -> None:
        """Let everything succeed until nothing runs any more, with these results by name and `{}` otherwise."""
        while names := await self.running():
            for name in sorted(names):
                await self.submit(name, results.get(name, {}))
            await self._engine.process()


async def edges(engine: Engine, task: UUID, child: str) -> dict[str, str]:
    """Return the edges into a step: their names by parent."""
    rows = await engine.sql(
        "SELECT p.name, e.name FROM tasker.workflow_step_edges e "
        "JOIN tasker.workflow_steps p ON p.task_uuid = e.task_uuid AND p.step_uuid = e.from_step_uuid "
        "JOIN tasker.workflow_steps c ON c.task_uuid = e.task_uuid AND c.step_uuid = e.to_step_uuid "
        "WHERE e.task_uuid = %s AND c.name = %s",
        task,
        child,
    )
    assert len(dict(rows)) == len(rows)
    return dict(rows)


async def assert_each_complete_once(engine: Engine, task: UUID) -> None:
    """Check that a task and all its steps became complete, none of them twice."""
    assert await engine.state(task) == "complete"
    rows = await engine.sql(
        "SELECT s.name, s.state::text, count(t.sort_key) FROM tasker.workflow_steps s "
        "LEFT JOIN tasker.workflow_step_transitions t "
        "ON t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid AND t.to_state = 'complete' "
        "WHERE s.task_uuid = %s GROUP BY s.name, s.state",
        task,
    )
    assert rows
    assert not [row for row in rows if row[1:] != ("complete", 1)]


async def fit_brake(engine: Engine, where: str) -> None:
    """Have transactions wait `adding`, `completing`, `committing` new steps or `finishing` old ones.

    They do whenever somebody has the lock of `PULL`.
    """
    table, initially, condition = _BRAKES[where]
    await engine.database.execute(
        "CREATE FUNCTION public.brake() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock_shared(40); RETURN NULL; END'"
    )
    await engine.database.execute(
        f"CREATE CONSTRAINT TRIGGER brake AFTER INSERT ON tasker.{table} DEFERRABLE INITIALLY {initially} "
        f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION public.brake()"
    )
