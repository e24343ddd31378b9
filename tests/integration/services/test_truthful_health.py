"""Health tells the truth: hung handlers, a blocked loop, claims that ended, a database that takes no writes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from tasker.orchestration.service import OrchestrationService
from tasker.persistence.migrations import migrate
from tasker.telemetry import loop_watch
from tasker.v1 import health_pb2, worker_pb2
from tasker.worker import HandlerRegistry, StepContext
from tasker.worker.runtime import heartbeat
from tasker.worker.service import WorkerService
from tests.support import outages, services
from tests.support.clients import Client, Update, refused
from tests.support.engine import Engine, chain
from tests.support.postgres import OwnServer
from tests.support.waiting import PATIENCE_SECONDS, until, within
from tests.support.workshop import Workshop


async def not_serving(client: Client) -> bool:
    return not await client.serving()


async def readiness(client: Client) -> health_pb2.ReadinessResponse:
    return await client.health.CheckReadiness(health_pb2.ReadinessRequest(), timeout=PATIENCE_SECONDS)


async def detailed(client: Client) -> health_pb2.DetailedHealthResponse:
    request = health_pb2.DetailedHealthRequest()
    return await client.health.CheckDetailedHealth(request, timeout=PATIENCE_SECONDS)


async def worker_readiness(client: Client) -> worker_pb2.WorkerReadinessResponse:
    request = worker_pb2.WorkerReadinessRequest()
    return await client.worker_health.CheckReadiness(request, timeout=PATIENCE_SECONDS)


async def worker_detailed(client: Client) -> worker_pb2.WorkerDetailedHealthResponse:
    request = worker_pb2.WorkerDetailedHealthRequest()
    return await client.worker_health.CheckDetailedHealth(request, timeout=PATIENCE_SECONDS)


# Hung handlers


class Stubborn:
    """A handler in a thread that goes on until it is let, whatever its timeout."""

    def __init__(self) -> None:
        self.running = 0
        self.leave = threading.Event()
        self.registry = HandlerRegistry()

        def work(context: StepContext) -> dict[str, Any]:
            self.running += 1
            self.leave.wait(PATIENCE_SECONDS)
            return {}

        self.registry.register(work, name="work")


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    stubborn = Stubborn()
    yield stubborn
    stubborn.leave.set()


async def test_a_worker_full_of_hung_handlers_is_not_ready(
    database_url: str,
    client: Client,
    engine: Engine,
    stubborn: Stubborn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "LEASE_RENEWAL", timedelta(seconds=0.05))
    folder = services.write_templates(tmp_path / "served", chain(1, retry={"max_attempts": 1}))
    async with (
        services.worker(
            database_url, stubborn.registry, folder, slots=2, handler_timeout_seconds=0.1
        ) as service,
        Client(service.address) as worker_client,
    ):
        await until(worker_client.serving)
        await client.create()
        await until(lambda: service.worker.slots_hung == 1)
        # One of two: it can work still.
        assert await worker_client.serving()
        answer = await worker_detailed(worker_client)
        assert (answer.status, answer.checks.step_processing.status) == ("degraded", "degraded")
        assert answer.checks.step_processing.message == (
            "0 steps run; 1 slots are taken by handlers that go on after their step has ended"
        )
        await client.create()
        await until(partial(not_serving, worker_client))
        assert await worker_client.serving("liveness")
        refusal = await refused(worker_readiness(worker_client))
        assert (refusal.code, refusal.reason, refusal.retry_after) == (
            StatusCode.UNAVAILABLE, "NOT_READY", 5,
        )  # fmt: skip
        assert "handlers that go on after their step has ended take all slots (2)" in refusal.message
        report = refusal.report(worker_pb2.WorkerReadinessResponse)
        assert (report.status, report.checks.command_processor.status) == ("not_ready", "unhealthy")
        assert report.checks.database.status == "healthy"
        assert report.system_info.supported_namespaces == ["test"]

        async def told() -> bool:
            ((in_use,),) = await engine.sql("SELECT slots_in_use FROM tasker.workers")
            return bool(in_use == 2)

        await until(told)  # though no claim is open
        stubborn.leave.set()
        await until(worker_client.serving)
        assert (service.worker.slots_in_use, service.worker.slots_hung) == (0, 0)
        assert (await worker_readiness(worker_client)).status == "ready"


async def test_a_coroutine_that_refuses_to_be_cancelled_hangs_too(
    database_url: str, client: Client, workshop: Workshop, tmp_path: Path
) -> None:
    leave = asyncio.Event()

    async def refuse(_: StepContext) -> dict[str, Any]:
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return {}

    workshop.behaviours["s1"] = refuse
    folder = services.write_templates(tmp_path / "served", chain(1, retry={"max_attempts": 1}))
    async with (
        services.worker(
            database_url, workshop.registry, folder, slots=1, handler_timeout_seconds=0.1
        ) as service,
        Client(service.address) as worker_client,
    ):
        await client.create()
        await until(partial(not_serving, worker_client))
        leave.set()
        await until(worker_client.serving)


async def test_a_handler_that_stops_when_told_never_hangs(
    database_url: str, client: Client, workshop: Workshop, tmp_path: Path
) -> None:
    async def wait(_: StepContext) -> object:
        return await asyncio.Event().wait()

    workshop.behaviours["s1"] = wait
    folder = services.write_templates(tmp_path / "served", chain(1, retry={"max_attempts": 1}))
    async with services.worker(
        database_url, workshop.registry, folder, slots=1, handler_timeout_seconds=0.1
    ) as service:
        seen = []
        service.worker._slots.on_hung = lambda: seen.append(service.worker.slots_hung)
        task = await client.create()
        assert (await client.watch(task.task_uuid))[-1].task_state
        assert (seen, service.worker.slots_in_use) == ([], 0)


# The loop


class Noticed:
    """Takes the lines of the loop's watch, and lets a thread wait for one."""

    def __init__(self) -> None:
        self.blocked = threading.Event()

    def error(self, event: str, **facts: Any) -> None:
        self.blocked.set()

    def warning(self, event: str, **facts: Any) -> None:
        pass


async def test_a_handler_that_blocked_the_loop_shows_afterwards(
    database_url: str,
    client: Client,
    workshop: Workshop,
    templates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noticed = Noticed()
    monkeypatch.setattr(loop_watch, "log", noticed)

    def block(_: StepContext) -> dict[str, Any]:
        assert noticed.blocked.wait(PATIENCE_SECONDS)  # the whole loop waits, this test included
        return {}

    workshop.behaviours["s1"] = block
    async with (
        services.worker(database_url, workshop.registry, templates, loop_blocked_seconds=0.1) as service,
        Client(service.address) as worker_client,
    ):
        task = await client.create()
        assert (await client.watch(task.task_uuid))[-1].update_type == Update.UPDATE_TYPE_TASK_COMPLETE
        answer = await until(partial(_steps_degraded, worker_client))
        assert "the event loop was blocked for" in answer.checks.step_processing.message
        assert "by wait (" in answer.checks.step_processing.message
        assert await worker_client.serving()  # it works again


async def _steps_degraded(client: Client) -> worker_pb2.WorkerDetailedHealthResponse | None:
    answer = await worker_detailed(client)
    return answer if answer.checks.step_processing.status == "degraded" else None


# Claims


async def test_a_worker_whose_claims_have_ended_is_not_ready(
    database_url: str, workshop: Workshop, templates: Path
) -> None:
    async with (
        services.worker(database_url, workshop.registry, templates) as service,
        Client(service.address) as worker_client,
    ):
        await until(worker_client.serving)
        service.worker._claiming.cancel()
        await until(partial(not_serving, worker_client))
        refusal = await refused(worker_readiness(worker_client))
        assert "the worker takes no work" in refusal.message


# A database that takes no writes


@pytest.fixture
async def worker(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path
) -> AsyncIterator[WorkerService]:
    async with services.worker(database_url, workshop.registry, templates) as service:
        yield service


@pytest.mark.own_database
async def test_a_database_that_takes_no_writes_is_not_well(
    database_url: str, client: Client, worker: WorkerService, engine: Engine
) -> None:
    async with Client(worker.address) as worker_client:
        await until(client.serving)
        await until(worker_client.serving)
        await outages.set_read_only(database_url, read_only=True)
        for one in (client, worker_client):
            await until(partial(not_serving, one))
            assert await one.serving("liveness")
        refusal = await refused(readiness(client))
        assert (refusal.code, refusal.reason) == (StatusCode.UNAVAILABLE, "NOT_READY")
        assert refusal.message == "not ready: the database takes no writes; retry in 5 s"
        report = refusal.report(health_pb2.ReadinessResponse)
        assert (report.status, report.checks.web_database.status) == ("not_ready", "unhealthy")
        assert report.checks.web_database.message == "the database takes no writes"
        assert report.checks.command_processor.status == "healthy"
        assert (report.info.operational_state, report.info.HasField("pool_utilization")) == (
            "Emergency",
            True,
        )
        answer = await detailed(client)
        assert (answer.status, answer.info.operational_state) == ("degraded", "Emergency")
        creating = await refused(client.create())
        assert (creating.code, creating.retry_after) == (StatusCode.UNAVAILABLE, 1)
        assert "takes no writes" in creating.message
        # New connections take writes again; those there are do not, and go.
        await outages.set_read_only(database_url, read_only=False)
        for one in (client, worker_client):
            await until(one.serving)
        assert (await readiness(client)).info.operational_state == "Normal"
        task = await client.create()
        assert (await client.watch(task.task_uuid))[-1].update_type == Update.UPDATE_TYPE_TASK_COMPLETE


@pytest.mark.own_database
async def test_a_session_that_cannot_write_is_given_up(database_url: str, engine: Engine) -> None:
    """The caller notices nothing: what was refused is done again on a connection that can."""
    sessions = engine.database.sessions(at_most=1)
    refused_writes = []
    engine.database.pulse.on_refusal = lambda: refused_writes.append(True)
    await outages.set_read_only(database_url, read_only=True)
    with pytest.raises(Exception, match="read-only"):
        await sessions.execute("DELETE FROM tasker.workers")
    assert refused_writes == [True]
    assert await sessions.fetch_value("SELECT 1") == 1  # connected while nothing can be written
    await outages.set_read_only(database_url, read_only=False)
    await sessions.execute("DELETE FROM tasker.workers")
    assert refused_writes == [True]
    await sessions.close()


@pytest.fixture
def server_folder(embedded_url: str) -> Iterator[Path]:
    """For a server of its own; the shared one has prepared what it needs to run."""
    folder = Path(tempfile.mkdtemp(prefix="tasker-pg-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_standby_is_not_well_until_it_is_promoted(
    server_folder: Path, workshop: Workshop, templates: Path
) -> None:
    async with OwnServer(server_folder) as server:
        await asyncio.to_thread(migrate, server.url)
        async with (
            services.orchestration(server.url) as service,
            services.worker(server.url, workshop.registry, templates) as worker,
            Client(service.address) as client,
            Client(worker.address) as worker_client,
        ):
            await until(client.serving)
            await server.demote()
            for one in (client, worker_client):
                await until(partial(not_serving, one))

            async def standby() -> bool:
                refusal = await refused(readiness(client))
                return "the database is a standby" in refusal.message

            await until(standby)
            await server.promote()
            for one in (client, worker_client):
                await until(one.serving)
            task = await client.create()
            last = (await within(client.watch(task.task_uuid)))[-1]
            assert last.update_type == Update.UPDATE_TYPE_TASK_COMPLETE
