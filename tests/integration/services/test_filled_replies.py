"""What clients read without looking whether it is there is there: on an empty database, and with tasks in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from tasker.orchestration.service import OrchestrationService
from tasker.v1 import dlq_pb2, tasks_pb2
from tasker.worker.service import WorkerService
from tests.support import services
from tests.support.engine import Engine, chain
from tests.support.strangers import Stranger
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workshop import Workshop

#: Texts that are uuids in every reply, unless they may be absent and are.
UUIDS = ("task_uuid", "step_uuid", "correlation_id", "dlq_entry_uuid", "audit_uuid", "transition_uuid")

#: What answers without anything being there, and what with; the rest is asked for by facts of a scenario.
WITHOUT_FACTS = {
    "TaskService": ("ListTasks",),
    "TemplateService": ("ListTemplates",),
    "AnalyticsService": ("GetPerformanceMetrics", "GetBottleneckAnalysis"),
    "DlqService": ("ListEntries", "GetStats", "GetInvestigationQueue", "GetStalenessMonitoring"),
    "ConfigService": ("GetConfig",),
    "HealthService": ("CheckHealth", "CheckLiveness", "CheckReadiness", "CheckDetailedHealth"),
    "OperationsService": ("ListQueues", "ListPoison"),
    "WorkerConfigService": ("GetConfig",),
    "WorkerHealthService": ("CheckHealth", "CheckLiveness", "CheckReadiness", "CheckDetailedHealth"),
    "WorkerTemplateService": ("ListTemplates",),
}
#: Whose tasks come without what they are about, which the callers need not be allowed to read.
WITHOUT_CONTEXT = ("OperationsService.", "TaskService.StreamTaskStatus")


def gaps(message: Message, path: str = "") -> Iterator[str]:
    """Yield the fields that must be there and are not, and texts that must be uuids and are not."""
    if message.DESCRIPTOR.file.package != "tasker.v1":
        return
    for field in message.DESCRIPTOR.fields:
        value, at = getattr(message, field.name), f"{path}.{field.name}"
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            if field.is_repeated:
                for index, inner in enumerate(value):
                    yield from gaps(inner, f"{at}[{index}]")
            elif message.HasField(field.name):
                yield from gaps(value, at)
            elif field.containing_oneof is None:  # `optional` makes an alternative of a field
                yield at
        elif field.name in UUIDS and not (field.has_presence and not message.HasField(field.name)):
            yield from () if is_uuid(value) else (f"{at}: {value!r}",)


def is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def test_a_gap_would_be_seen() -> None:
    task = tasks_pb2.Task(task_uuid="7", correlation_id=str(uuid4()))
    assert set(gaps(tasks_pb2.GetTaskResponse(task=task), "r")) == {
        "r.task.task_uuid: '7'",
        "r.task.created_at",
        "r.task.updated_at",
        "r.task.context",
    }
    assert set(gaps(dlq_pb2.GetDlqEntryByTaskResponse())) == {".entry"}


class Surface:
    """Every method of a server, called by name; each reply is looked at."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, MethodDescriptor] = {}
        self.called: set[str] = set()

    async def learn(self) -> None:
        stranger = Stranger(self._channel)
        for service in await stranger.services():
            if service.startswith("tasker.v1."):
                self._methods |= {
                    f"{service[10:]}.{method.name}": method for method in await stranger.methods(service)
                }

    @property
    def unasked(self) -> set[str]:
        return self._methods.keys() - self.called

    async def ask(self, name: str, /, **fields: Any) -> Any:
        """Call a method and return its reply, of a stream the first; nothing may be missing in it."""
        method = self._methods[name]
        self.called.add(name)
        request = ParseDict(fields, GetMessageClass(method.input_type)()).SerializeToString()
        path = f"/{method.containing_service.full_name}/{method.name}"
        read: Callable[[bytes], Message] = GetMessageClass(method.output_type).FromString
        if method.server_streaming:
            stream = self._channel.unary_stream(path, _as_is, read)(request, timeout=PATIENCE_SECONDS)
            reply = cast(Message, await stream.read())
            stream.cancel()
        else:
            reply = await self._channel.unary_unary(path, _as_is, read)(request, timeout=PATIENCE_SECONDS)
        withheld = f"{name}.task.context" if name.startswith(WITHOUT_CONTEXT) else None
        assert [gap for gap in gaps(reply, name) if gap != withheld] == []
        return reply


def _as_is(data: bytes) -> bytes:
    return data


@pytest.fixture
async def surface(orchestration: OrchestrationService) -> AsyncIterator[Surface]:
    async with aio.insecure_channel(orchestration.address) as channel:
        surface = Surface(channel)
        await surface.learn()
        yield surface


@pytest.fixture
async def worker_surface(worker: WorkerService) -> AsyncIterator[Surface]:
    async with aio.insecure_channel(worker.address) as channel:
        surface = Surface(channel)
        await surface.learn()
        yield surface


@pytest.fixture
async def worker(
    database_url: str, orchestration: OrchestrationService, workshop: Workshop, templates: Path
) -> AsyncIterator[WorkerService]:
    async with services.worker(database_url, workshop.registry, templates) as service:
        yield service


async def ask_all(surface: Surface, is_of_worker: Callable[[str], bool]) -> None:
    for service, methods in WITHOUT_FACTS.items():
        if is_of_worker(service):
            for method in methods:
                await surface.ask(f"{service}.{method}")


async def test_nothing_is_missing_on_an_empty_database(surface: Surface) -> None:
    await ask_all(surface, lambda service: not service.startswith("Worker"))


async def test_nothing_is_missing_of_a_worker(worker_surface: Surface) -> None:
    await ask_all(worker_surface, lambda service: service.startswith("Worker"))
    await worker_surface.ask(
        "WorkerTemplateService.GetTemplate", namespace="test", name="workflow", version="1.0.0"
    )
    assert worker_surface.unasked == set()


async def test_nothing_is_missing_in_any_reply_about_tasks(surface: Surface, engine: Engine) -> None:
    await engine.register(chain(2))
    which = {"namespace": "test", "name": "workflow"}
    who = {"performed_by": "ada", "reason": "a test"}
    task = (await surface.ask("TaskService.CreateTask", **which)).task.task_uuid
    await surface.ask("TaskService.StreamTaskStatus", task_uuid=task, include_steps=True)
    await surface.ask("WatchService.WatchTasks", **which)
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    for method in ("GetTask", "GetTaskContext", "GetTaskSummary"):
        await surface.ask(f"TaskService.{method}", task_uuid=task)
    whole = await surface.ask("TaskService.GetTask", task_uuid=task, include_steps=True, include_context=True)
    assert whole.HasField("context")
    step = {"task_uuid": task, "step_uuid": whole.steps[0].step_uuid}
    await surface.ask("StepService.ListSteps", task_uuid=task)
    for method in ("GetStep", "GetStepAudit"):
        await surface.ask(f"StepService.{method}", **step)

    await surface.ask("OperationsService.SendToDlq", task_uuid=task, requested_by="ada", reason="a test")
    entry = (await surface.ask("DlqService.GetEntryByTask", task_uuid=task)).entry
    await ask_all(surface, lambda service: not service.startswith("Worker"))
    await surface.ask(
        "DlqService.UpdateInvestigation", dlq_entry_uuid=entry.dlq_entry_uuid, resolution_notes="seen"
    )
    reset = step | who | {"action_type": "STEP_MANUAL_ACTION_TYPE_RESET_FOR_RETRY"}
    await surface.ask("StepService.ResolveStep", **reset)
    await surface.ask("BatchService.ResolveSteps", steps=[reset])
    await surface.ask("OperationsService.RequeueTask", task_uuid=task, **who)
    await engine.fail(*await engine.claim(), retryable=False)
    await engine.process()
    await surface.ask("OperationsService.RetryTask", task_uuid=task, **who)

    many = await surface.ask("BatchService.CreateTasks", tasks=[which])
    await surface.ask("BatchService.CancelTasks", task_uuids=[many.results[0].task_uuid])
    await surface.ask("TaskService.CancelTask", task_uuid=task)

    document = json.dumps(chain(1) | {"version": "1.1.0"})
    await surface.ask("TemplateAdminService.ValidateTemplate", document=document)
    await surface.ask("TemplateAdminService.RegisterTemplate", document=document)
    await surface.ask("TemplateAdminService.ListVersions", **which)
    version = which | {"version": "1.0.0"}
    await surface.ask("TemplateService.GetTemplate", **version)
    for method in ("Deactivate", "Activate"):
        await surface.ask(f"TemplateAdminService.{method}", **version)
    for method in ("PauseNamespace", "ResumeNamespace"):
        more = {"reason": "a test"} if method == "PauseNamespace" else {}
        await surface.ask(f"OperationsService.{method}", namespace="test", requested_by="ada", **more)
    # Of these the tests of operations make the tasks and messages that they are for.
    assert surface.unasked == {"OperationsService.ResumeTask", "OperationsService.RequeuePoison"}
