"""The client itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, Unpack
from uuid import UUID

from tasker.client import parsing, summary_parsing
from tasker.client.access import AccessOptions
from tasker.client.analytics import AnalyticsCalls
from tasker.client.batches import Batches
from tasker.client.config import ConfigCalls
from tasker.client.connection import Connection
from tasker.client.dlq import DlqCalls
from tasker.client.health_records import Health, HealthProbe
from tasker.client.listing import TaskQuery, list_request
from tasker.client.new_task import NewTask
from tasker.client.operations import Operations
from tasker.client.records import Cancellation, Task, TaskPage
from tasker.client.registry import Registry
from tasker.client.step_calls import StepCalls
from tasker.client.summary_records import TaskContext, TaskSummary
from tasker.client.template_records import Template, TemplateListing
from tasker.client.watcher import Watcher
from tasker.v1 import (
    common_pb2,
    health_pb2,
    health_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    templates_pb2,
    templates_pb2_grpc,
)


class TaskerClient(StepCalls, Watcher):
    """Talks to an orchestration service; `SyncTaskerClient` does the same for programs without asyncio.

    ```python
    async with TaskerClient("127.0.0.1:9190") as client:
        task = await client.create("shop", "checkout", {"cart": [1, 2]})
        task = await client.wait(task.task_uuid)
    ```

    Every method raises a `TaskerClientError` if its call fails. Calls whose repetition does no harm are repeated
    while the service is unavailable: all that only read, `cancel`, and `create` with an idempotency key; `health`
    is not, since its answer is about now. A call with all its repetitions takes no longer than its timeout.

    It connects when first used, and belongs to the event loop of that use.

    Attributes:
        batches: Creates, cancels and mends many at once.
        registry: Registers and checks templates, and says which versions may be used.
        operations: Looks after queues and namespaces, and after tasks as a whole.
        dlq: Calls about tasks that need a person.
        analytics: Calls about how work went lately.
        config: Calls about the settings of the service.
    """

    def __init__(self, address: str, *, timeout_seconds: float = 30, **access: Unpack[AccessOptions]) -> None:
        """Prepare a client.

        Args:
            address: `host:port` of an orchestration service, or `unix:/path`.
            timeout_seconds: How long a call may take. Watching and waiting go on for as long as they need,
                and give up when the service has been unavailable for that long.
            **access: Credentials and TLS: `token`, `api_key`, `tls`, `ca`, `cert`, `key` and what else
                `AccessOptions` explains.

        Raises:
            ValueError: They do not go together, or a token or API key would be sent in plaintext to another machine.
            OSError: A file of certificates cannot be read.
        """
        self._connection = Connection(address, timeout_seconds=timeout_seconds, access=access)
        self.batches = Batches(self._connection)
        self.registry = Registry(self._connection)
        self.operations = Operations(self._connection)
        self.dlq = DlqCalls(self._connection)
        self.analytics = AnalyticsCalls(self._connection)
        self.config = ConfigCalls(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the end of an `async with` block does it, too. Calls at hand are cancelled."""
        await self._connection.close()

    async def create(
        self,
        namespace: str,
        name: str,
        context: Mapping[str, Any] | None = None,
        *,
        version: str = "",
        idempotency_key: str | None = None,
        correlation_id: UUID | str | None = None,
        parent_correlation_id: UUID | str | None = None,
        initiator: str | None = None,
        source_system: str | None = None,
        reason: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Task:
        """Create a task.

        Args:
            namespace: Namespace of the template.
            name: Name of the template.
            context: What the task is about: a JSON object, sent exactly, integers of any size included.
            version: Version of the template; the highest one in use by default.
            idempotency_key: Names this request. Sent again with the same context it returns the same task.
            correlation_id: Ties the task to other work; a new one by default.
            parent_correlation_id: Correlation id of the work that causes the task.
            initiator: Who asks.
            source_system: Where the request comes from.
            reason: Why.
            priority: From -100 to 100; above 0 its steps go before those of others, below 0 after them.
            tags: Labels to find the task by.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: There is no such template, or the request is wrong; see `violations`.
            AlreadyExistsError: An equal task exists, or the key came with another context before.
            TypeError: The context holds something that JSON does not know.
            ValueError: The context holds NaN or an infinity.
        """
        request = NewTask(
            namespace,
            name,
            context,
            version=version,
            idempotency_key=idempotency_key,
            correlation_id=correlation_id,
            parent_correlation_id=parent_correlation_id,
            initiator=initiator,
            source_system=source_system,
            reason=reason,
            priority=priority,
            tags=tags,
        ).request()
        answer = await self._connection.call(
            self._tasks.CreateTask, request, timeout=timeout, repeatable=idempotency_key is not None
        )
        return parsing.task(answer.task, already_existed=answer.already_existed)

    async def get(self, task_uuid: UUID | str, *, steps: bool = False, timeout: float | None = None) -> Task:
        """Return a task.

        Args:
            task_uuid: The task.
            steps: Whether to bring its steps with their results. Those that one reply has no room for are fetched one
                by one.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        reading = self._reading(task_uuid, timeout)
        request = tasks_pb2.GetTaskRequest(task_uuid=str(task_uuid), include_steps=steps)
        answer = await self._connection.call(self._tasks.GetTask, request, timeout=timeout)
        return parsing.task(answer.task, steps=await reading.whole(answer.steps, answer.steps_pagination))

    async def list(
        self, *, page_size: int = 100, timeout: float | None = None, **query: Unpack[TaskQuery]
    ) -> AsyncGenerator[Task, None]:
        """Yield every task that matches, newest first unless sorted otherwise; pages are fetched when needed.

        What is created or changed meanwhile neither repeats nor hides a task that was there all along.

        Args:
            page_size: How many tasks to fetch at once, 1 to 1000.
            timeout: Seconds each page may take; the client's timeout by default.
            **query: Which tasks, in which order: see `TaskQuery`.

        Raises:
            TypeError: The query has a key that is none.
            ValueError: An instant of the query has no time zone.
        """
        token: str | None = None
        while True:
            page = await self.page(size=page_size, token=token, timeout=timeout, **query)
            for task in page.tasks:
                yield task
            token = page.next_token
            if token is None:
                return

    async def page(
        self,
        *,
        size: int = 100,
        token: str | None = None,
        timeout: float | None = None,
        **query: Unpack[TaskQuery],
    ) -> TaskPage:
        """Return one page of a listing and how many tasks match in all.

        Args:
            size: How many tasks at most, 1 to 1000.
            token: `next_token` of the page before; the query has to be the same.
            timeout: Seconds the call may take; the client's timeout by default.
            **query: Which tasks, in which order: see `TaskQuery`.

        Raises:
            InvalidArgumentError: The token is of another listing, or the query is wrong.
            TypeError: The query has a key that is none.
            ValueError: An instant of the query has no time zone.
        """
        request = list_request(query, size=size, token=token)
        answer = await self._connection.call(self._tasks.ListTasks, request, timeout=timeout)
        return parsing.page(answer)

    async def cancel(
        self,
        task_uuid: UUID | str,
        *,
        reason: str | None = None,
        requested_by: str | None = None,
        timeout: float | None = None,
    ) -> Cancellation:
        """Cancel a task and all of its open steps; harmless if it has ended.

        Args:
            task_uuid: The task.
            reason: Why; kept with the change.
            requested_by: Who asks; kept with the change.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        request = tasks_pb2.CancelTaskRequest(
            task_uuid=str(task_uuid), reason=reason, requested_by=requested_by
        )
        answer = await self._connection.call(self._tasks.CancelTask, request, timeout=timeout)
        return parsing.cancellation(answer)

    async def context(self, task_uuid: UUID | str, *, timeout: float | None = None) -> TaskContext:
        """Return what went into a task and the results of its completed steps.

        Args:
            task_uuid: The task.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        request = tasks_pb2.GetTaskContextRequest(task_uuid=str(task_uuid))
        answer = await self._connection.call(self._tasks.GetTaskContext, request, timeout=timeout)
        omitted = frozenset(answer.context.outputs_omitted)
        steps = await self.steps(task_uuid, timeout=timeout) if omitted else ()
        return summary_parsing.task_context(
            answer.context, {step.name: step.result for step in steps if step.name in omitted}
        )

    async def summary(self, task_uuid: UUID | str, *, timeout: float | None = None) -> TaskSummary:
        """Return a task with its template, its steps in brief, and whether it waits for a person.

        Args:
            task_uuid: The task.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such task.
        """
        request = tasks_pb2.GetTaskSummaryRequest(task_uuid=str(task_uuid))
        answer = await self._connection.call(self._tasks.GetTaskSummary, request, timeout=timeout)
        return summary_parsing.task_summary(answer)

    async def templates(
        self, namespace: str | None = None, *, timeout: float | None = None
    ) -> TemplateListing:
        """Return the registered templates, every version of them.

        Args:
            namespace: Only those of this namespace.
            timeout: Seconds each page may take; the client's timeout by default.
        """
        request = templates_pb2.ListTemplatesRequest(namespace=namespace)
        whole = answer = await self._connection.call(self._templates.ListTemplates, request, timeout=timeout)
        while answer.pagination.has_more:
            request.pagination.CopyFrom(
                common_pb2.PaginationRequest(limit=1000, page_token=answer.pagination.next_page_token)
            )
            answer = await self._connection.call(self._templates.ListTemplates, request, timeout=timeout)
            whole.templates.extend(answer.templates)
        return parsing.template_listing(whole)

    async def template(
        self, namespace: str, name: str, version: str = "", *, timeout: float | None = None
    ) -> Template:
        """Return one version of a template.

        Args:
            namespace: Its namespace.
            name: Its name.
            version: The version; the highest one by default.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such template, or no such version of it.
        """
        request = templates_pb2.GetTemplateRequest(namespace=namespace, name=name, version=version)
        answer = await self._connection.call(self._templates.GetTemplate, request, timeout=timeout)
        return parsing.template(answer.template)

    async def health(self, probe: HealthProbe = "detailed", *, timeout: float | None = None) -> Health:
        """Return how the service is; asked once, and never repeated.

        Args:
            probe: What to look at.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            UnavailableError: It cannot be reached; or, asked whether it is `ready`, it is not.
        """
        methods: Mapping[HealthProbe, tuple[Callable[..., Awaitable[parsing.HealthAnswer]], object]] = {
            "basic": (self._health.CheckHealth, health_pb2.HealthRequest()),
            "ready": (self._health.CheckReadiness, health_pb2.ReadinessRequest()),
            "detailed": (self._health.CheckDetailedHealth, health_pb2.DetailedHealthRequest()),
        }
        method, request = methods[probe]
        answer = await self._connection.call(method, request, timeout=timeout, repeatable=False)
        return parsing.health(answer)

    async def wait(self, task_uuid: UUID | str, timeout: float | None = None) -> Task:
        """Wait until a task is settled (terminal or `blocked_by_failures`) and return it with its steps.

        Args:
            task_uuid: The task.
            timeout: How many seconds to wait; for ever by default.

        Raises:
            NotFoundError: There is no such task.
            TimeoutError: The task was not settled in time; it goes on.
        """
        try:
            async with asyncio.timeout(timeout) as limit:
                while True:
                    async for _ in self.watch(task_uuid):
                        pass
                    task = await self.get(task_uuid, steps=True)
                    if task.state.is_settled:  # unless an operator resumed it in between
                        return task
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(
                    f"task {task_uuid} was not settled within {timeout:g} s; it goes on"
                ) from None
            raise

    @cached_property
    def _tasks(self) -> tasks_pb2_grpc.TaskServiceAsyncStub:
        return tasks_pb2_grpc.TaskServiceStub(self._connection.channel)

    @cached_property
    def _templates(self) -> templates_pb2_grpc.TemplateServiceAsyncStub:
        return templates_pb2_grpc.TemplateServiceStub(self._connection.channel)

    @cached_property
    def _health(self) -> health_pb2_grpc.HealthServiceAsyncStub:
        return health_pb2_grpc.HealthServiceStub(self._connection.channel)
