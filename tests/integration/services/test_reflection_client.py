"""A client that has none of our code runs a workflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import aio

from tasker.orchestration.service import OrchestrationService
from tests.support import services
from tests.support.strangers import VERSIONS, Stranger
from tests.support.workshop import Workshop


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_with_nothing_but_reflection_watches_a_task_complete(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path, version: str
) -> None:
    async with (
        services.worker(database_url, workshop.registry, templates) as worker,
        aio.insecure_channel(orchestration.address) as channel,
        aio.insecure_channel(worker.address) as worker_channel,
    ):
        stranger = Stranger(channel, version)
        served = (
            *("Task", "Step", "Template", "Analytics", "Dlq", "Config", "Health"),
            *("Batch", "TemplateAdmin", "Operations", "Watch"),
        )
        assert await stranger.services() == {
            *(f"tasker.v1.{name}Service" for name in served),
            "grpc.health.v1.Health",
            *(f"{known}.ServerReflection" for known in VERSIONS),
        }
        assert {name for name in await Stranger(worker_channel, version).services() if "Worker" in name} == {
            f"tasker.v1.Worker{name}Service" for name in ("Config", "Health", "Template")
        }
        tasks = "tasker.v1.TaskService"
        async for created in stranger.call(
            tasks, "CreateTask", namespace="test", name="diamond", context={"n": 6}
        ):
            assert created["task"]["state"] == "TASK_STATE_STEPS_IN_PROCESS"
        task_uuid = created["task"]["task_uuid"]
        updates = [
            update
            async for update in stranger.call(
                tasks, "StreamTaskStatus", task_uuid=task_uuid, include_steps=True, resume_cursor=""
            )
        ]
        assert updates[-1]["update_type"] == "UPDATE_TYPE_TASK_COMPLETE"
        complete = [
            update["step_update"]["name"]
            for update in updates
            if update.get("step_update", {}).get("state") == "STEP_STATE_COMPLETE"
        ]
        assert (complete[0], complete[-1], len(complete)) == ("start", "end", 4)
        async for got in stranger.call(tasks, "GetTask", task_uuid=task_uuid, include_steps=True):
            assert got["task"]["state"] == "TASK_STATE_COMPLETE"
            assert got["steps"][0]["results"]["result"] == {"step": "start"}
        async for ready in stranger.call("tasker.v1.HealthService", "CheckReadiness"):
            assert ready["status"] == "ready"
