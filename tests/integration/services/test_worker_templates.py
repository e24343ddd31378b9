"""WorkerTemplateService: what a worker serves, with which handlers, and how its revisions are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from tasker.orchestration.service import OrchestrationService
from tasker.v1 import worker_pb2
from tests.support import services
from tests.support.clients import Client, Update, refused
from tests.support.engine import chain, diamond
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workshop import Workshop


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    elsewhere = chain(1) | {"namespace_name": "elsewhere", "description": "one step"}
    nobody = chain(1, handler="nobody") | {"name": "nobody"}
    return [chain(2), chain(3) | {"version": "1.10.0"}, chain(1) | {"version": "1.9.0"}, elsewhere, nobody]


@pytest.fixture
async def worker_client(
    database_url: str,
    orchestration: OrchestrationService,
    workshop: Workshop,
    documents: list[dict[str, Any]],
    tmp_path: Path,
) -> AsyncIterator[Client]:
    folder = services.write_templates(tmp_path / "served", *documents, diamond() | {"name": "diamond"})
    async with (
        services.worker(database_url, workshop.registry, folder) as worker,
        Client(worker.address) as client,
    ):
        yield client


async def listing(client: Client, **fields: Any) -> worker_pb2.WorkerTemplateListResponse:
    request = worker_pb2.WorkerListTemplatesRequest(**fields)
    return await client.worker_templates.ListTemplates(request, timeout=PATIENCE_SECONDS)


async def get(
    client: Client, name: str, namespace: str = "test", version: str = ""
) -> worker_pb2.WorkerTemplateResponse:
    request = worker_pb2.WorkerGetTemplateRequest(namespace=namespace, name=name, version=version)
    return await client.worker_templates.GetTemplate(request, timeout=PATIENCE_SECONDS)


async def test_templates_are_counted(worker_client: Client) -> None:
    answer = await listing(worker_client)
    assert list(answer.supported_namespaces) == ["elsewhere", "test"]
    assert answer.template_count == 6
    assert "batch_worker" in answer.worker_capabilities
    assert not answer.HasField("cache_stats")
    assert (await listing(worker_client, namespace="elsewhere")).template_count == 1
    assert (await listing(worker_client, namespace="nowhere")).template_count == 0


async def test_a_template_comes_with_its_handlers(worker_client: Client) -> None:
    answer = await get(worker_client, "workflow", "elsewhere", "1.0.0")
    template = answer.template
    assert (template.namespace, template.name, template.version) == ("elsewhere", "workflow", "1.0.0")
    assert template.description == "one step"
    (step,) = template.steps
    assert (step.name, step.handler, step.retryable) == ("s1", "work", True)
    assert step.handler_version
    assert step.max_attempts > 0
    handlers = answer.handler_metadata
    assert (handlers.namespace, handlers.handler_name, handlers.version) == ("elsewhere", "work", "1.0.0")
    assert list(handlers.step_names) == ["s1"]


async def test_no_version_means_the_highest(worker_client: Client) -> None:
    assert (await get(worker_client, "workflow")).template.version == "1.10.0"
    assert (await get(worker_client, "workflow", version="1.9.0")).template.version == "1.9.0"


async def test_what_a_worker_lacks_is_not_found(worker_client: Client) -> None:
    unknown = await refused(get(worker_client, "unknown"))
    assert (unknown.code, unknown.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    version = await refused(get(worker_client, "workflow", version="3.0.0"))
    assert version.facts["known_versions"] == "1.10.0,1.9.0,1.0.0"
    handler = await refused(get(worker_client, "nobody"))
    assert (handler.code, handler.reason) == (StatusCode.NOT_FOUND, "HANDLER_NOT_FOUND")
    assert "step 's1' of test/nobody:1.0.0" in handler.message


async def test_a_request_without_a_name_is_refused(worker_client: Client) -> None:
    refusal = await refused(get(worker_client, "", namespace=""))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"namespace", "name"})


async def test_what_steps_ran_with_is_kept(client: Client, worker_client: Client) -> None:
    assert not (await get(worker_client, "diamond")).cached
    before = (await listing(worker_client, include_cache_stats=True)).cache_stats
    assert (before.total_cached, before.cache_hits, before.average_access_count) == (0, 0, 0)
    task = await client.create(name="diamond")
    assert (await client.watch(task.task_uuid))[-1].update_type == Update.UPDATE_TYPE_TASK_COMPLETE
    answer = await get(worker_client, "diamond")
    assert answer.cached
    assert answer.access_count >= 1
    assert not (await get(worker_client, "workflow")).cached
    after = (await listing(worker_client, include_cache_stats=True)).cache_stats
    assert (after.total_cached, after.cache_evictions) == (1, 0)
    assert after.cache_hits + after.cache_misses == 4  # once a step
    assert after.average_access_count == after.cache_hits
    assert list(after.supported_namespaces) == ["elsewhere", "test"]
