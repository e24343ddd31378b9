"""The client itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from grpc import aio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from tasker.client import parsing
from tasker.client.errors import UnavailableError, client_error
from tasker.client.records import Step, StepUpdate, Task, TaskUpdate
from tasker.client.watching import watch
from tasker.v1 import steps_pb2, steps_pb2_grpc, tasks_pb2, tasks_pb2_grpc

Answer = TypeVar("Answer")

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a task may have many steps with large results
    ("grpc.keepalive_time_ms", 30_000),  # so that a silent stream notices a server that is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_BACKOFF: Final = wait_random_exponential(multiplier=0.1, max=2)


class TaskerClient:
    """Talks to an orchestration service.

    ```python
    async with TaskerClient("127.0.0.1:9190") as client:
        task = await client.create("shop", "checkout", {"cart": [1, 2]})
        task = await client.wait(task.task_uuid)
    ```

    Every method raises a `TaskerClientError` if its call fails. Calls that change nothing are repeated while
    the service is unavailable, and so is `create` if it carries an idempotency key; a call with all its
    repetitions takes no longer than the timeout.
    """

    def __init__(self, address: str, *, timeout_seconds: float = 30) -> None:
        """Prepare a client; it connects when first used.

        Args:
            address: `host:port` of an orchestration service, or `unix:/path`.
            timeout_seconds: How long a call may take. Watching and waiting go on for as long as they need,
                and give up when the service has been unavailable for that long.
        """
        self._address = address
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        self._channel = aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
        self._tasks = tasks_pb2_grpc.TaskServiceStub(self._channel)
        self._steps = steps_pb2_grpc.StepServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(None)

    async def create(
        self,
        namespace: str,
        name: str,
        context: Mapping[str, Any] | None = None,
        *,
        version: str = "",
        idempotency_key: str | None = None,
        correlation_id: UUID | None = None,
        parent_correlation_id: UUID | None = None,
        initiator: str | None = None,
        source_system: str | None = None,
        reason: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] = (),
    ) -> Task:
        """Create a task.

        Args:
            namespace: Namespace of the template.
            name: Name of the template.
            context: What the task is about: a JSON object, sent exactly, integers of any size included.
            version: Version of the template; the highest one by default.
            idempotency_key: Names this request. Sent again with the same context it returns the same task.
            correlation_id: Ties the task to other work; a new one by default.
            parent_correlation_id: Correlation id of the work that causes the task.
            initiator: Who asks.
            source_system: Where the request comes from.
            reason: Why.
            priority: From -100 to 100; kept with the task, steps are claimed in the order they were enqueued.
            tags: Labels to find the task by.

        Raises:
            InvalidArgumentError: There is no such template, or the request is wrong; see `violations`.
            AlreadyExistsError: An equal task exists, or the key came with another context before.
            TypeError: The context holds something that JSON does not know.
            ValueError: The context holds NaN or an infinity.
        """
        request = tasks_pb2.CreateTaskRequest(
            namespace=namespace,
            name=name,
            version=version,
            context_json=json.dumps(context, allow_nan=False) if context is not None else None,
            idempotency_key=idempotency_key,
            correlation_id=str(correlation_id) if correlation_id else None,
            parent_correlation_id=str(parent_correlation_id) if parent_correlation_id else None,
            initiator=initiator,
            source_system=source_system,
            reason=reason,
            priority=priority,
            tags=tags,
        )
        answer = await self._call(self._tasks.CreateTask, request, repeatable=idempotency_key is not None)
        return parsing.task(answer.task, already_existed=answer.already_existed)

    async def get(self, task_uuid: UUID | str, *, steps: bool = False) -> Task:
        """Return a task.

        Args:
            task_uuid: The task.
            steps: Whether to bring its steps with their results.

        Raises:
            NotFoundError: There is no such task.
        """
        request = tasks_pb2.GetTaskRequest(task_uuid=str(task_uuid), include_steps=steps)
        answer = await self._call(self._tasks.GetTask, request)
        return parsing.task(answer.task, steps=answer.steps)

    async def steps(self, task_uuid: UUID | str) -> tuple[Step, ...]:
        """Return the steps of a task with their results, oldest first.

        Raises:
            NotFoundError: There is no such task.
        """
        answer = await self._call(self._steps.ListSteps, steps_pb2.ListStepsRequest(task_uuid=str(task_uuid)))
        return tuple(parsing.step(step) for step in answer.steps)

    def watch(
        self, task_uuid: UUID | str, *, steps: bool = False, from_start: bool = False
    ) -> AsyncGenerator[TaskUpdate | StepUpdate, None]:
        """Follow a task: yield every change in the order of the commits until the task is settled.

        Settled means terminal or `blocked_by_failures`; that update says `is_last`. A lost connection is
        taken up where it broke off, so that nothing is missed and nothing comes twice.

        Args:
            task_uuid: The task.
            steps: Whether to yield what its steps do, too.
            from_start: Whether to begin with the task's first change. Otherwise the first update is the state
                the task is in now.

        Raises:
            NotFoundError: There is no such task.
            UnavailableError: The service did not come back in time.
        """
        return watch(
            self._tasks,
            UUID(str(task_uuid)),
            steps=steps,
            from_start=from_start,
            patience_seconds=self._timeout_seconds,
        )

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

    async def _call(
        self, method: Callable[..., Awaitable[Answer]], request: object, *, repeatable: bool = True
    ) -> Answer:
        deadline = time.monotonic() + self._timeout_seconds

        async def call() -> Answer:
            try:
                return await method(request, timeout=max(0.001, deadline - time.monotonic()))
            except aio.AioRpcError as error:
                raise client_error(error) from None

        if not repeatable:
            return await call()
        return await AsyncRetrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_before_delay(self._timeout_seconds),
            wait=_pause,
            reraise=True,
        )(call)


def _pause(state: RetryCallState) -> float:
    """Return how long to wait: what the service asked for, else a growing random time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, UnavailableError) else None
    return max(asked or 0, _BACKOFF(state))
