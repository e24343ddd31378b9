"""Back-pressure over a real channel: creates are refused while too much waits, and reads are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from tasker.messaging.queues import RESULTS_QUEUE, Band, worker_queue
from tasker.orchestration.engine.orchestrator import Orchestrator
from tasker.orchestration.loops.backpressure import BackpressureLoop
from tasker.orchestration.service import OrchestrationService
from tasker.persistence.reading.backlogs import BacklogReader
from tasker.v1 import batch_pb2, batch_pb2_grpc, health_pb2, tasks_pb2
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until


@pytest.fixture
async def orchestration(database_url: str) -> AsyncIterator[OrchestrationService]:
    async with services.orchestration(
        database_url,
        worker_queue_warning_depth=2,
        worker_queue_critical_depth=3,
        worker_queue_overflow_depth=5,
        result_queue_warning_depth=3,
        result_queue_critical_depth=4,
        result_queue_overflow_depth=4,
    ) as service:
        yield service


def engine_of(service: OrchestrationService) -> Orchestrator:
    return service._orchestrator


async def look(service: OrchestrationService) -> None:
    """Have the service look how much waits."""
    reader = BacklogReader(engine_of(service).database, ["orchestration_step_results"])
    await BackpressureLoop(reader, engine_of(service).backpressure).tick()


async def create(client: Client, **fields: Any) -> tasks_pb2.CreateTaskResponse:
    request = tasks_pb2.CreateTaskRequest(name="workflow", **({"namespace": "test"} | fields))
    return await client.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)


async def fill(engine: Engine, queue: str, count: int) -> None:
    """Put messages of nobody's into a queue."""
    await engine.sql("SELECT tasker.ensure_queue_v1(%s)", queue)
    await engine.sql(
        f"INSERT INTO pgmq.q_{queue} (vt, message) "
        "SELECT clock_timestamp() + interval '1 hour', '{}' FROM generate_series(1, %s)",
        count,
    )


async def test_creates_are_told_and_then_refused_and_reads_are_not(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    await look(orchestration)
    created = await create(client)
    assert not created.HasField("backpressure")
    await create(client)
    await look(orchestration)
    told = (await create(client)).backpressure
    assert (told.active, told.queue_depth, told.max_queue_depth) == (True, 2, 3)
    assert told.reason == "2 steps of namespace 'test' wait for workers"
    for depth, seconds in ((3, 30), (5, 60)):
        await fill(engine, worker_queue("test", Band.LOW), depth - 3)
        await look(orchestration)
        refusal = await refused(create(client))
        assert (refusal.code, refusal.reason) == (StatusCode.UNAVAILABLE, "BACKPRESSURE")
        assert refusal.retry_after == seconds
        assert (refusal.facts["queue_depth"], refusal.facts["max_queue_depth"]) == (str(depth), "3")
        await engine.sql("DELETE FROM pgmq.q_worker_test_low_queue")
    assert (await client.get(created.task.task_uuid)).task_uuid == created.task.task_uuid
    listed = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    assert listed.pagination.total == 3
    # The steps are done, and all is well.
    steps = await engine.claim()
    await engine.succeed(*steps)

    async def processed() -> bool:
        return not await engine.messages(RESULTS_QUEUE)

    await until(processed)
    await look(orchestration)
    assert not (await create(client)).HasField("backpressure")


async def test_many_at_once_are_told_and_refused_too(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    stub = batch_pb2_grpc.BatchServiceStub(client.channel)
    one, elsewhere = (
        tasks_pb2.CreateTaskRequest(name="workflow", namespace=name) for name in ("test", "other")
    )

    async def create_many(*tasks: tasks_pb2.CreateTaskRequest) -> batch_pb2.CreateTasksResponse:
        request = batch_pb2.CreateTasksRequest(tasks=tasks)
        return await stub.CreateTasks(request, timeout=PATIENCE_SECONDS)

    assert not (await create_many(one, one)).HasField("backpressure")
    await look(orchestration)
    told = await create_many(elsewhere, one)
    assert (told.backpressure.queue_depth, told.created) == (2, 1)
    await look(orchestration)
    refusal = await refused(create_many(elsewhere, one))
    assert (refusal.code, refusal.retry_after) == (StatusCode.UNAVAILABLE, 30)
    assert await engine.messages(worker_queue("test")) == 3
    assert (await create_many(elsewhere)).created == 0  # for its own reason: there is no such template


async def test_the_gate_stands_before_the_arguments(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    await fill(engine, worker_queue("test"), 3)
    await look(orchestration)
    refusal = await refused(create(client, correlation_id="no uuid"))
    assert refusal.code is StatusCode.UNAVAILABLE
    other = await refused(create(client, namespace="elsewhere", correlation_id="no uuid"))
    assert other.code is StatusCode.INVALID_ARGUMENT


async def test_results_that_nobody_processes_refuse_work_too(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    await engine.register(chain(1))
    await fill(engine, RESULTS_QUEUE, 4)
    await look(orchestration)
    refusal = await refused(create(client))
    assert refusal.message.startswith("4 results wait to be processed")


async def test_health_says_so(orchestration: OrchestrationService, client: Client, engine: Engine) -> None:
    await engine.register(chain(1))

    async def depth() -> health_pb2.HealthCheck:
        request = health_pb2.DetailedHealthRequest()
        answer = await client.health.CheckDetailedHealth(request, timeout=PATIENCE_SECONDS)
        return answer.checks.queue_depth

    await fill(engine, worker_queue("test"), 2)
    await look(orchestration)
    check = await depth()
    assert (check.status, check.message) == (
        "degraded", "0 results wait; 2 steps of namespace 'test' wait for workers",
    )  # fmt: skip
    await fill(engine, worker_queue("test"), 1)
    await look(orchestration)
    assert (await depth()).status == "unhealthy"


async def test_the_service_looks_by_itself(
    orchestration: OrchestrationService, client: Client, engine: Engine
) -> None:
    """It does at its start, without being asked."""
    await engine.register(chain(1))
    await until(lambda: engine_of(orchestration).backpressure.raised is not None)


async def test_it_can_be_switched_off(database_url: str, engine: Engine) -> None:
    await engine.register(chain(1))
    async with (
        services.orchestration(
            database_url,
            backpressure_enabled=False,
            worker_queue_warning_depth=1,
            worker_queue_critical_depth=1,
            worker_queue_overflow_depth=1,
        ) as service,
        Client(service.address) as client,
    ):
        assert "backpressure" not in [runner.name for runner in engine_of(service)._runners]
        await create(client)
        assert not (await create(client)).HasField("backpressure")


async def test_many_messages_are_estimated_and_no_more_than_there_can_be(
    database_url: str, engine: Engine
) -> None:
    """Counted up to what is asked for; beyond that by the table's statistics, within the span of ids."""
    queue = worker_queue("test")
    await fill(engine, queue, 50)
    depth = "SELECT tasker.queue_depth_v1(%s, %s)"
    assert await engine.sql(depth, queue, 51) == [(50,)]

    async def estimated() -> int:
        ((found,),) = await engine.sql(depth, queue, 10)
        return int(found)

    async def flushed() -> bool:
        await engine.sql("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        return await estimated() == 50

    await until(flushed)
    # The statistics of an earlier life say more than there are ids.
    await engine.sql(
        f"DELETE FROM pgmq.q_{queue} WHERE msg_id > (SELECT min(msg_id) + 19 FROM pgmq.q_{queue})"
    )
    assert 10 <= await estimated() <= 20
    assert await engine.sql(depth, "worker_nobody_queue", 10) == [(0,)]
