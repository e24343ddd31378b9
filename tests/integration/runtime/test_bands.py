"""A worker serves all three bands of its namespaces."""

from __future__ import annotations

from uuid import UUID

from tests.integration.runtime.conftest import StartWorker
from tests.support.engine import Engine, chain
from tests.support.waiting import until
from tests.support.workshop import Workshop


async def test_a_waiting_worker_is_woken_for_tasks_of_every_priority(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    template = await engine.register(chain(1))
    await start_worker(chain(1))
    tasks: list[UUID] = []
    for priority in (0, -5, 5, 0):
        tasks.append((await engine.request(template, priority=priority)).task.task_uuid)

        async def settled() -> bool:
            await engine.process()
            return await engine.state(tasks[-1]) == "complete"

        await until(settled)
    assert [context.task_uuid for context in workshop.calls] == tasks


async def test_hints_for_one_queue_do_not_hide_what_waits_in_another(
    engine: Engine, workshop: Workshop, start_worker: StartWorker
) -> None:
    template = await engine.register(chain(1))
    refused = (await engine.request(template, priority=-1)).task.task_uuid
    assert await engine.claim(handlers=("other",)) == []  # back into its queue for a second, without a hint
    await start_worker(chain(1))

    async def ran() -> bool:
        await engine.request(template)
        return refused in {context.task_uuid for context in workshop.calls}

    await until(ran)
