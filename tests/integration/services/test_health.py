"""HealthService, WorkerHealthService and grpc.health.v1, while the database is there and while it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from tasker.messaging.queues import RESULTS_QUEUE
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import health_pb2 as tasker_health_pb2
from tasker.v1 import steps_pb2, tasks_pb2, worker_pb2
from tasker.version import VERSION
from tasker.worker.service import WorkerService
from tests.support import clients, outages, services, waiting
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.faults import send_by_hand
from tests.support.outages import FreezingProxy
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.workshop import Gate, Workshop

ORCHESTRATION_NAMES = ("", "tasker.v1.TaskService", "tasker.v1.HealthService")
WORKER_NAMES = ("", "tasker.v1.WorkerHealthService", "tasker.v1.WorkerTemplateService")


@pytest.fixture
async def worker(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path
) -> AsyncIterator[WorkerService]:
    async with services.worker(database_url, workshop.registry, templates) as service:
        yield service


@pytest.fixture
async def worker_client(worker: WorkerService) -> AsyncIterator[Client]:
    async with Client(worker.address) as client:
        yield client


async def readiness(client: Client) -> tasker_health_pb2.ReadinessResponse:
    return await client.health.CheckReadiness(tasker_health_pb2.ReadinessRequest(), timeout=PATIENCE_SECONDS)


async def worker_readiness(client: Client) -> worker_pb2.WorkerReadinessResponse:
    return await client.worker_health.CheckReadiness(
        worker_pb2.WorkerReadinessRequest(), timeout=PATIENCE_SECONDS
    )


async def detailed(client: Client) -> tasker_health_pb2.DetailedHealthResponse:
    return await client.health.CheckDetailedHealth(
        tasker_health_pb2.DetailedHealthRequest(), timeout=PATIENCE_SECONDS
    )


async def worker_detailed(client: Client) -> worker_pb2.WorkerDetailedHealthResponse:
    return await client.worker_health.CheckDetailedHealth(
        worker_pb2.WorkerDetailedHealthRequest(), timeout=PATIENCE_SECONDS
    )


def checks_of(message: Any) -> dict[str, str]:
    """Return the status of every check a message type has; a missing one is empty."""
    return {field.name: getattr(message, field.name).status for field in message.DESCRIPTOR.fields}


# While all is well


async def test_an_orchestrator_that_is_well_says_so(client: Client) -> None:
    basic = await client.health.CheckHealth(tasker_health_pb2.HealthRequest(), timeout=PATIENCE_SECONDS)
    alive = await client.health.CheckLiveness(tasker_health_pb2.LivenessRequest(), timeout=PATIENCE_SECONDS)
    assert (basic.status, alive.status) == ("healthy", "alive")
    full = await until(lambda: _healthy(client))
    assert isinstance(full, tasker_health_pb2.DetailedHealthResponse)
    ready = await readiness(client)
    assert ready.status == "ready"
    for response in (basic, alive, ready, full):
        assert datetime.fromisoformat(response.timestamp).tzinfo is not None  # RFC 3339
    assert set(checks_of(ready.checks).values()) == {"healthy"}
    assert set(checks_of(full.checks).values()) == {"healthy"}
    for info in (ready.info, full.info):
        assert (info.version, info.operational_state) == (VERSION, "Normal")
        assert info.environment
        assert info.circuit_breaker_state in ("Closed", "HalfOpen", "Open")
        assert min(info.web_database_pool_size, info.orchestration_database_pool_size) > 0
        for pool in (info.pool_utilization.tasker_pool, info.pool_utilization.pgmq_pool):
            assert pool.max_connections > 0
            assert pool.active_connections + pool.idle_connections <= pool.max_connections
            assert 0 <= pool.utilization_percent <= 100


async def test_poison_shows_for_an_hour(client: Client, engine: Engine) -> None:
    await until(lambda: _healthy(client))
    await send_by_hand(engine, RESULTS_QUEUE, {"task_uuid": "garbled"})
    await engine.database.execute(f"SELECT tasker.hint_v1('tasker_{RESULTS_QUEUE}')")

    async def degraded() -> tasker_health_pb2.DetailedHealthResponse | None:
        response = await detailed(client)
        return response if response.checks.poison_messages.status == "degraded" else None

    full = await until(degraded)
    assert isinstance(full, tasker_health_pb2.DetailedHealthResponse)
    assert full.status == "degraded"
    assert full.checks.poison_messages.message == "1 recorded in the last hour, 1 in the last day"
    assert (await readiness(client)).status == "ready"  # the service itself is well
    await engine.move_clock(3600)
    full = await until(lambda: _healthy(client))
    assert isinstance(full, tasker_health_pb2.DetailedHealthResponse)
    assert full.checks.poison_messages.message == "0 recorded in the last hour, 1 in the last day"


async def _healthy(client: Client) -> tasker_health_pb2.DetailedHealthResponse | None:
    response = await detailed(client)  # degraded until the listener is connected
    return response if response.status == "healthy" else None


async def test_a_worker_that_is_well_says_so(worker: WorkerService, worker_client: Client) -> None:
    basic = await worker_client.worker_health.CheckHealth(
        worker_pb2.WorkerHealthRequest(), timeout=PATIENCE_SECONDS
    )
    alive = await worker_client.worker_health.CheckLiveness(
        worker_pb2.WorkerLivenessRequest(), timeout=PATIENCE_SECONDS
    )
    assert (basic.status, alive.status) == ("healthy", "alive")
    ready = await worker_readiness(worker_client)

    async def healthy() -> worker_pb2.WorkerDetailedHealthResponse | None:
        response = await worker_detailed(worker_client)
        return response if response.status == "healthy" else None

    full = await until(healthy)
    assert isinstance(full, worker_pb2.WorkerDetailedHealthResponse)
    assert ready.status == "ready"
    assert set(checks_of(full.checks).values()) == {"healthy"}
    assert "" not in checks_of(ready.checks).values()
    for response in (basic, alive, ready, full):
        assert response.timestamp.seconds > 1_600_000_000
        assert UUID(response.worker_id.removeprefix("worker_")) == worker.worker.worker_uuid
    for check in (ready.checks.database, full.checks.step_processing):
        assert check.last_checked.seconds > 1_600_000_000
    for info in (ready.system_info, full.system_info):
        assert (info.version, list(info.supported_namespaces)) == (VERSION, ["test"])
        assert info.environment
        assert info.worker_type
        assert info.database_pool_size > 0
        assert info.command_processor_active


async def test_probes_find_every_service_and_no_other(client: Client, worker_client: Client) -> None:
    for name in (*ORCHESTRATION_NAMES, "liveness"):
        assert await client.serving(name)
    for name in (*WORKER_NAMES, "liveness"):
        assert await worker_client.serving(name)
    for stranger in ("tasker.v1.WorkerHealthService", "nobody"):
        refusal = await refused(
            client.probes.Check(health_pb2.HealthCheckRequest(service=stranger), timeout=PATIENCE_SECONDS)
        )
        assert refusal.code is StatusCode.NOT_FOUND


# While the database is away


@pytest.mark.own_database
async def test_the_database_goes_and_comes_back(
    database_url: str, client: Client, worker_client: Client, engine: Engine
) -> None:
    watch = client.probes.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
    told = aiter(watch)
    assert (await anext(told)).status == health_pb2.HealthCheckResponse.SERVING
    async with outages.outage(database_url):
        assert (await anext(told)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for service, names in ((client, ORCHESTRATION_NAMES), (worker_client, WORKER_NAMES)):
            for name in names:
                await until(partial(_is_not, service, name))
            assert await service.serving("liveness")
        for call in (readiness(client), worker_readiness(worker_client)):
            refusal = await refused(call)
            assert refusal.code is StatusCode.UNAVAILABLE
            assert refusal.retry_after == 5
        assert (
            await client.health.CheckHealth(tasker_health_pb2.HealthRequest(), timeout=10)
        ).status == "healthy"
        alive = await worker_client.worker_health.CheckLiveness(
            worker_pb2.WorkerLivenessRequest(), timeout=10
        )
        assert alive.status == "alive"
        await _both_degraded(client, worker_client)
    assert (await anext(told)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    await until(lambda: worker_client.serving(""))
    assert (await readiness(client)).status == "ready"
    assert (await worker_readiness(worker_client)).status == "ready"
    # And both work as before, from the first call on.
    task = await client.create()
    assert (await client.watch(task.task_uuid))[-1].update_type == clients.Update.UPDATE_TYPE_TASK_COMPLETE
    await until(lambda: _healthy(client))


async def _is_not(client: Client, service: str = "") -> bool:
    return not await client.serving(service)


async def _both_degraded(client: Client, worker_client: Client) -> None:
    full = await detailed(client)  # detailed health answers whatever happens
    assert full.status == "degraded"
    assert "" not in checks_of(full.checks).values()
    assert (full.checks.web_database.status, full.checks.queue_depth.status) == ("unhealthy", "unknown")
    assert full.checks.poison_messages.status == "unknown"
    of_worker = await worker_detailed(worker_client)
    assert (of_worker.status, of_worker.checks.database.status) == ("degraded", "unhealthy")
    assert "" not in checks_of(of_worker.checks).values()


@pytest.mark.own_database
async def test_calls_during_an_outage_may_be_repeated(
    database_url: str, orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    pool = orchestration._orchestrator.database._pool
    patience, pool.timeout = pool.timeout, 0.2  # how long a call waits for a connection
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    async with outages.outage(database_url):
        await until(partial(_is_not, client))
        refusals = await asyncio.gather(
            refused(client.create()),
            refused(client.create(version="9.9.9")),
            refused(client.get(task_uuid)),
            refused(client.watch(task_uuid)),
            refused(client.steps.ListSteps(steps_pb2.ListStepsRequest(task_uuid=task_uuid), timeout=20)),
        )
    assert {refusal.code for refusal in refusals} == {StatusCode.UNAVAILABLE}
    assert all(refusal.retry_after for refusal in refusals)
    pool.timeout = patience
    await until(lambda: client.serving())
    request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid)
    assert (await client.tasks.GetTask(request, timeout=PATIENCE_SECONDS)).task.task_uuid == task_uuid


async def test_a_database_that_does_not_answer_is_gone_too(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Connections stay open and silent, as behind a dead network."""
    folder = tmp_path_factory.mktemp("pg")
    async with (
        FreezingProxy(database_url, folder) as proxy,
        services.orchestration(proxy.url) as service,
        Client(service.address) as client,
    ):
        await until(lambda: client.serving())
        proxy.freeze()
        await until(partial(_is_not, client))
        assert (await refused(readiness(client))).code is StatusCode.UNAVAILABLE
        assert await client.serving("liveness")
        proxy.thaw()
        await until(lambda: client.serving())


# While it stops


async def test_a_service_that_stops_is_not_ready_at_once(
    database_url: str, workshop: Workshop, templates: Path
) -> None:
    gate = workshop.behaviours["s1"] = Gate()
    async with services.orchestration(database_url) as orchestration, Client(orchestration.address) as client:
        service = services.new_worker(database_url, workshop.registry, templates)
        await service.start()
        async with Client(service.address) as worker_client:
            await client.create()
            await waiting.within(gate.entered.wait())
            stopping = asyncio.create_task(service.stop())
            await until(partial(_is_not, worker_client), seconds=1)
            assert await worker_client.serving("liveness")
            refusal = await refused(worker_readiness(worker_client))
            assert refusal.code is StatusCode.UNAVAILABLE
            gate.opened.set()
            await waiting.within(stopping)
