"""The client for programs without asyncio: the same methods, carried out on an event loop of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Self, Unpack

from tasker.client.access import AccessOptions
from tasker.client.analytics import AnalyticsCalls
from tasker.client.batches import Batches
from tasker.client.bridge import Bridge, Synchronous, iterates, waits
from tasker.client.client import TaskerClient
from tasker.client.config import ConfigCalls
from tasker.client.dlq import DlqCalls
from tasker.client.operations import Operations
from tasker.client.registry import Registry


class SyncAnalyticsCalls(Synchronous[AnalyticsCalls]):
    """The calls of `SyncTaskerClient.analytics`."""

    metrics = waits(AnalyticsCalls.metrics)
    bottlenecks = waits(AnalyticsCalls.bottlenecks)


class SyncConfigCalls(Synchronous[ConfigCalls]):
    """The calls of `SyncTaskerClient.config`."""

    get = waits(ConfigCalls.get)


class SyncBatches(Synchronous[Batches]):
    """`Batches` for programs without asyncio."""

    create = waits(Batches.create)
    cancel = waits(Batches.cancel)
    resolve = waits(Batches.resolve)


class SyncRegistry(Synchronous[Registry]):
    """`Registry` for programs without asyncio."""

    register = waits(Registry.register)
    validate = waits(Registry.validate)
    versions = waits(Registry.versions)
    deactivate = waits(Registry.deactivate)
    activate = waits(Registry.activate)


class SyncOperations(Synchronous[Operations]):
    """`Operations` for programs without asyncio."""

    queues = waits(Operations.queues)
    pause_namespace = waits(Operations.pause_namespace)
    resume_namespace = waits(Operations.resume_namespace)
    retry_task = waits(Operations.retry_task)
    resume_task = waits(Operations.resume_task)
    requeue_task = waits(Operations.requeue_task)
    send_to_dlq = waits(Operations.send_to_dlq)
    poison = iterates(Operations.poison)
    requeue_poison = waits(Operations.requeue_poison)


class SyncDlqCalls(Synchronous[DlqCalls]):
    """The calls of `SyncTaskerClient.dlq`."""

    list = iterates(DlqCalls.list)
    get = waits(DlqCalls.get)
    update = waits(DlqCalls.update)
    stats = waits(DlqCalls.stats)
    queue = iterates(DlqCalls.queue)
    staleness = iterates(DlqCalls.staleness)


class SyncTaskerClient(Synchronous[TaskerClient]):
    """`TaskerClient` for programs without asyncio.

    ```python
    with SyncTaskerClient("127.0.0.1:9190") as client:
        task = client.create("shop", "checkout", {"cart": [1, 2]})
        task = client.wait(task.task_uuid)
    ```

    Each method does what the async client's of that name does, with the same arguments, and returns when it is done;
    where that one is an async iterator, this one is an iterator. Threads may share a client.

    It connects when first used. Whoever makes one without `with` ends it with `close`.

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
            **access: Credentials and TLS, as `TaskerClient` takes them.

        Raises:
            ValueError: They do not go together, or a token or API key would be sent in plaintext to another machine.
            OSError: A file of certificates cannot be read.
        """
        calls, bridge = TaskerClient(address, timeout_seconds=timeout_seconds, **access), Bridge()
        super().__init__(calls, bridge)
        self.batches = SyncBatches(calls.batches, bridge)
        self.registry = SyncRegistry(calls.registry, bridge)
        self.operations = SyncOperations(calls.operations, bridge)
        self.dlq = SyncDlqCalls(calls.dlq, bridge)
        self.analytics = SyncAnalyticsCalls(calls.analytics, bridge)
        self.config = SyncConfigCalls(calls.config, bridge)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    create = waits(TaskerClient.create)
    get = waits(TaskerClient.get)
    list = iterates(TaskerClient.list)
    page = waits(TaskerClient.page)
    cancel = waits(TaskerClient.cancel)
    context = waits(TaskerClient.context)
    summary = waits(TaskerClient.summary)
    steps = waits(TaskerClient.steps)
    step = waits(TaskerClient.step)
    reset_step = waits(TaskerClient.reset_step)
    resolve_step = waits(TaskerClient.resolve_step)
    complete_step = waits(TaskerClient.complete_step)
    step_audit = iterates(TaskerClient.step_audit)
    step_interventions = waits(TaskerClient.step_interventions)
    templates = waits(TaskerClient.templates)
    template = waits(TaskerClient.template)
    health = waits(TaskerClient.health)
    watch = iterates(TaskerClient.watch)
    watch_tasks = iterates(TaskerClient.watch_tasks)
    wait = waits(TaskerClient.wait)

    def close(self) -> None:
        """Close the connection, as the end of a `with` block does. Calls of other threads end with RuntimeError."""
        self._bridge.close(self._calls.close)
