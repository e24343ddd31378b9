"""An orchestration service that stops: finishes the calls at hand, takes no new ones, waits for no idle stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from tasker.config.settings import OrchestrationSettings
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import health_pb2 as tasker_health_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS, until, within


def new_service(database_url: str, *, shutdown_timeout_seconds: float = 20) -> OrchestrationService:
    settings = {"bind_address": "127.0.0.1:0", "shutdown_timeout_seconds": shutdown_timeout_seconds}
    return OrchestrationService(OrchestrationSettings.load(database_url=database_url, **settings))


@asynccontextmanager
async def nobody_creates(database_url: str) -> AsyncIterator[None]:
    """Hold up every creation."""
    async with (
        await psycopg.AsyncConnection.connect(database_url) as connection,
        connection.transaction(force_rollback=True),
    ):
        await connection.execute("LOCK TABLE tasker.task_identities IN ACCESS EXCLUSIVE MODE")
        yield


async def test_calls_at_hand_are_finished_and_new_ones_refused(database_url: str, engine: Engine) -> None:
    await engine.register(chain(1) | {"identity_strategy": "strict"})
    service = new_service(database_url)
    await service.start()
    async with Client(service.address) as client:
        await client.create(context={"n": 0})
        async with nobody_creates(database_url):
            calls = [asyncio.create_task(client.create(context={"n": n})) for n in range(1, 6)]

            async def one_waits() -> bool:
                rows = await engine.sql(
                    "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE NOT granted AND datname = current_database()"
                )
                return bool(rows)

            await until(one_waits)
            # Answered behind them on the same connection, so all have arrived by then.
            await client.health.CheckLiveness(tasker_health_pb2.LivenessRequest(), timeout=PATIENCE_SECONDS)
            stopping = asyncio.create_task(service.stop())
            await until(lambda: _refuses(service.address))
            assert not stopping.done()
        created = await within(asyncio.gather(*calls))
        await within(stopping)
    assert len({task.task_uuid for task in created}) == 5
    assert await engine.sql("SELECT count(*) FROM tasker.tasks") == [(6,)]


async def _refuses(address: str) -> bool:
    async with Client(address) as client:
        refusal = await refused(client.get("0197b7f2-7c1e-7d3a-9c55-3f0f6d1a2b4c"))
        return refusal.code is StatusCode.UNAVAILABLE


async def test_silent_streams_do_not_hold_it_up(database_url: str, engine: Engine) -> None:
    """Somebody watches a task and somebody its health, as load balancers do."""
    await engine.register(chain(1))
    service = new_service(database_url, shutdown_timeout_seconds=300)
    await service.start()
    async with Client(service.address) as client:
        stream = client.stream((await client.create()).task_uuid)
        await within(anext(aiter(stream)))
        watch = aiter(client.probes.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS))
        assert (await within(anext(watch))).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(service.stop())
        assert (await within(anext(watch))).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not stopping.done()
        await within(stopping)
