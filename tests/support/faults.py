"""What breaks on purpose: triggers that refuse rows, and messages nobody would send."""

from __future__ import annotations

import json

from tests.support.engine import Engine


async def refuse(
    engine: Engine,
    table: str,
    condition: str,
    *,
    event: str = "INSERT OR UPDATE",
    sqlstate: str = "P0001",
    first: int = 1,
    last: int = 2**62,
) -> None:
    """Have PostgreSQL refuse the rows that meet a condition, from the `first` to the `last` time that one does."""
    name = f"refuse_{len(await engine.sql('SELECT 1 FROM pg_trigger WHERE NOT tgisinternal'))}"
    for statement in (
        f"CREATE SEQUENCE public.{name}",
        f"CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"DECLARE n bigint := nextval('public.{name}'); BEGIN IF n BETWEEN {first} AND {last} THEN "
        f"RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) "
        f"EXECUTE FUNCTION public.{name}()",
    ):
        await engine.database.execute(statement)


async def send_by_hand(engine: Engine, queue: str, message: object) -> int:
    """Put anything into a queue; return its id."""
    ((msg_id,),) = await engine.sql(
        f"INSERT INTO pgmq.q_{queue} (vt, message) VALUES (clock_timestamp(), %s::jsonb) RETURNING msg_id",
        json.dumps(message),
    )
    return int(msg_id)


async def poison(engine: Engine) -> list[tuple[str, str | None, str]]:
    """Return the queue, the step's name and the error of all poison found, oldest first."""
    rows = await engine.sql(
        "SELECT p.queue, s.name, p.error FROM tasker.poison_messages p LEFT JOIN tasker.workflow_steps s "
        "USING (task_uuid, step_uuid) ORDER BY p.poison_id"
    )
    return [(queue, name, error) for queue, name, error in rows]


class FailingOnce:
    """A loop whose first tick fails; after that it wants to wait so many seconds."""

    name = "failing"

    def __init__(self, seconds: float) -> None:
        self.ticks = 0
        self._seconds = seconds

    async def tick(self) -> float:
        """Fail, or do nothing."""
        self.ticks += 1
        if self.ticks == 1:
            raise ValueError("once")
        return self._seconds
