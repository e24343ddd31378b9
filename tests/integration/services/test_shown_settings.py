"""ConfigService and WorkerConfigService: everything that clients insist on, and nothing that is secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.message import Message
from psycopg.conninfo import make_conninfo

from tasker.v1 import config_pb2, health_pb2, worker_pb2
from tasker.version import VERSION
from tests.support import services
from tests.support.clients import Client
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workshop import Workshop

#: Of a server that asks for none, so any will do.
CANARY = "c4nary-Pa55word"


@pytest.fixture
async def clients(
    database_url: str, workshop: Workshop, templates: Path
) -> AsyncIterator[tuple[Client, Client]]:
    """Clients of an orchestration service and of a worker whose database URL holds a password."""
    url = make_conninfo(database_url, password=CANARY)
    async with (
        services.orchestration(url, environment="staging") as orchestration,
        services.worker(url, workshop.registry, templates, environment="staging") as worker,
        Client(orchestration.address) as client,
        Client(worker.address) as worker_client,
    ):
        yield client, worker_client


async def _config(client: Client) -> config_pb2.GetConfigResponse:
    return await client.config.GetConfig(config_pb2.GetConfigRequest(), timeout=PATIENCE_SECONDS)


async def _worker_config(client: Client) -> worker_pb2.WorkerGetConfigResponse:
    return await client.worker_config.GetConfig(worker_pb2.WorkerGetConfigRequest(), timeout=PATIENCE_SECONDS)


def _check_metadata(metadata: config_pb2.ConfigMetadata) -> None:
    assert (metadata.environment, metadata.version) == ("staging", VERSION)
    assert abs(metadata.timestamp.ToDatetime(UTC) - datetime.now(UTC)).total_seconds() < PATIENCE_SECONDS


def _missing(message: Message) -> list[str]:
    """Return the parts of a message that are not filled."""
    parts = [field.name for field in message.DESCRIPTOR.fields if field.message_type is not None]
    return [part for part in parts if not message.HasField(part)]


async def test_the_orchestration_shows_every_part(clients: tuple[Client, Client]) -> None:
    config = await _config(clients[0])
    assert _missing(config) == []
    _check_metadata(config.metadata)
    assert config.deployment_mode == "Hybrid"
    assert (config.messaging.backend, list(config.messaging.queues)) == (
        "pgmq", ["orchestration_step_results", "orchestration_step_judgements"],
    )  # fmt: skip
    assert not config.auth.enabled
    assert config.auth.verification_method
    assert not config.circuit_breakers.enabled
    assert config.database_pools.web_api_max_connections > 0


async def test_a_worker_shows_every_part(clients: tuple[Client, Client]) -> None:
    config = await _worker_config(clients[1])
    assert _missing(config) == []
    _check_metadata(config.metadata)
    assert config.worker_id.startswith("worker_")
    assert config.worker_type == "general"
    assert set(config.messaging.queues) == {
        "worker_test_high_queue", "worker_test_queue", "worker_test_low_queue",
    }  # fmt: skip


async def test_no_secret_is_shown(clients: tuple[Client, Client]) -> None:
    client, worker_client = clients
    answers: list[Message] = [
        await _config(client),
        await _worker_config(worker_client),
        await client.health.CheckDetailedHealth(health_pb2.DetailedHealthRequest(), timeout=PATIENCE_SECONDS),
        await worker_client.worker_health.CheckDetailedHealth(
            worker_pb2.WorkerDetailedHealthRequest(), timeout=PATIENCE_SECONDS
        ),
    ]
    for answer in answers:
        assert CANARY.encode() not in answer.SerializeToString()
        assert b"password" not in answer.SerializeToString()
