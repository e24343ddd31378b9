"""Templates that change, versions side by side, environments, on real services."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tasker.worker import RetryableError, StepContext
from tests.support import services
from tests.support.clients import Client
from tests.support.engine import Engine, chain
from tests.support.template_files import registered, write, written
from tests.support.waiting import until
from tests.support.workshop import Workshop

# Registering again


async def test_workers_that_start_at_once_register_the_same(
    database_url: str, engine: Engine, workshop: Workshop, folder: Path
) -> None:
    """Eight of them, on an empty database: nobody fails and everything is there once."""
    names = {f"{space}_{n}": chain(1) | {"name": f"w_{n}", "namespace_name": space}
             for space in ("one", "two") for n in range(5)}  # fmt: skip
    write(folder, **names)
    async with AsyncExitStack() as stack:
        starting = [services.worker(database_url, workshop.registry, folder) for _ in range(8)]
        for worker in await asyncio.gather(*map(stack.enter_async_context, starting)):
            assert worker.worker.registration.errors == []
            assert worker.worker.registration.successful_registrations == 10
    assert await written(engine) == {"task_namespaces": 2, "named_tasks": 10, "template_revisions": 10}


async def test_what_is_equal_changes_nothing(engine: Engine, folder: Path) -> None:
    write(folder, workflow=chain(2))
    await registered(engine, folder)
    everything = "SELECT t.*, t.xmin::text FROM tasker.named_tasks t"
    before = await engine.sql(everything), await written(engine)
    reordered = dict(reversed(list(chain(2).items())))
    write(folder, workflow="# The same, written differently.\n" + json.dumps(reordered))
    report = await registered(engine, folder)
    assert (report.successful_registrations, report.errors) == (1, [])
    assert (await engine.sql(everything), await written(engine)) == before


async def test_a_change_waits_for_running_tasks_and_then_reaches_every_orchestrator(
    database_url: str, engine: Engine, folder: Path
) -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            service = await stack.enter_async_context(services.orchestration(database_url))
            clients.append(await stack.enter_async_context(Client(service.address)))
        write(folder, workflow=chain(1), other=chain(1) | {"name": "other"})
        await registered(engine, folder)
        for client in clients:
            await client.create()

        write(folder, workflow=chain(2), other=chain(2) | {"name": "other"})
        refused_one = await registered(engine, folder)
        (error,) = refused_one.errors
        assert error.startswith("workflow.yaml: template test/workflow:1.0.0 differs from the registered one")
        assert (refused_one.successful_registrations, refused_one.failed_registrations) == (1, 1)
        assert refused_one.discovered_namespaces == ["test"]
        assert [(await client.create()).total_steps for client in clients] == [1, 1]

        for steps in (3, 4, 5):  # only a hint tells of a change
            await finish_all(engine)
            write(folder, workflow=chain(steps))
            assert (await registered(engine, folder)).errors == []
            for client in clients:
                await until(partial(creates, client, steps))


async def finish_all(engine: Engine) -> None:
    for (task_uuid,) in await engine.sql("SELECT task_uuid FROM tasker.tasks WHERE terminal_at IS NULL"):
        await engine.run(task_uuid)


async def test_an_orchestrator_that_was_cut_off_uses_the_change_too(
    database_url: str, engine: Engine, folder: Path
) -> None:
    """The hint went by while it did not listen."""
    async with services.orchestration(database_url) as service, Client(service.address) as client:
        write(folder, workflow=chain(1) | {"identity_strategy": "always_unique"})
        await registered(engine, folder)
        await client.create()
        await finish_all(engine)
        ended = await engine.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
        )
        assert ended == [(True,)]
        write(folder, workflow=chain(2))
        assert (await registered(engine, folder)).errors == []

        await until(partial(creates, client, 2))


async def test_development_may_overwrite_what_is_in_use(
    database_url: str, engine: Engine, client: Client, workshop: Workshop, folder: Path
) -> None:
    write(folder, workflow=chain(2))
    await registered(engine, folder)
    old = await client.create()
    write(folder, workflow=chain(3))
    async with services.worker(database_url, workshop.registry, folder, force_overwrite=True) as service:
        assert service.worker.registration.errors == []
        await client.watch(old.task_uuid)
        assert len(await client.list_steps(old.task_uuid)) == 2  # what has begun stays as it was
        await until(partial(creates, client, 3))


async def creates(client: Client, steps: int) -> bool:
    """Tell whether a new task has so many steps."""
    return (await client.create()).total_steps == steps


# Versions


async def test_two_versions_run_side_by_side(
    database_url: str, client: Client, workshop: Workshop, folder: Path
) -> None:
    write(
        folder,
        older=chain(1) | {"version": "1.9.0"},
        newer=chain(2) | {"version": "1.10.0"},
    )
    async with services.worker(database_url, workshop.registry, folder) as service:
        assert service.worker.registration.discovered_templates == [
            "test/workflow/1.10.0",
            "test/workflow/1.9.0",
        ]
        wanted = {"1.9.0": ("1.9.0", 1), "1.10.0": ("1.10.0", 2), "": ("1.10.0", 2)}
        created = {version: await client.create(version=version) for version in wanted}
        for version, (expected, steps) in wanted.items():
            task_uuid = created[version].task_uuid
            await client.watch(task_uuid)
            task = await client.get(task_uuid)
            assert (task.version, task.total_steps, task.completed_steps) == (expected, steps, steps)


async def test_an_environment_overrides_by_key(
    database_url: str, engine: Engine, workshop: Workshop, folder: Path
) -> None:
    def fail(context: StepContext) -> object:
        raise RetryableError("not today", retry_after=0)

    workshop.behaviours["s1"] = fail
    write(
        folder,
        workflow=chain(1, retry={"max_attempts": 5, "backoff": "none", "backoff_base_ms": 150})
        | {"environments": {"test": {"steps": [{"name": "ALL", "retry": {"max_attempts": 2}}]}}},
    )
    async with (
        services.orchestration(database_url, environment="test") as service,
        Client(service.address) as client,
        services.worker(database_url, workshop.registry, folder),
    ):
        task = await client.create()
        await client.watch(task.task_uuid)
    ((attempts, most, base),) = await engine.sql(
        "SELECT attempts, max_attempts, backoff_base_ms FROM tasker.workflow_steps"
    )
    assert (attempts, most, base) == (2, 2, 150)
