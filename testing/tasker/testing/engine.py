"""The engine as tests use it: whole tasks on a real PostgreSQL, one thing after the other, in no time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self

from tasker.client.bridge import Bridge
from tasker.domain.errors import InvalidArgumentError
from tasker.domain.templates.document import Template
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.validation import parse
from tasker.orchestration.engine.creation import NewTask
from tasker.persistence.embedded import embedded_server
from tasker.persistence.scratch import ScratchDatabase
from tasker.testing.driver import Connections, Driver
from tasker.testing.tasks import Task, TaskNotOverError
from tasker.worker.handlers.registry import HandlerRegistry, load_handlers
from tasker.worker.runtime.templates import template_files

#: Nothing has to survive a machine that fails.
_FAST: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class Engine:
    """Runs whole tasks with the code of both services, on a database of its own, without anything in the background.

    Nothing happens but within a call of a test, and all that can happen at one time happens then: a call returns when
    every task is over or waits for a later time. Only the clock of the engine can be moved; handlers, and their
    timeouts, have the real one. Async handlers run on an event loop of the engine's, in a thread beside the test.

    Attributes:
        handlers: What runs the steps.
    """

    def __init__(self, database: ScratchDatabase, *, environment: str = "test") -> None:
        """Connect. `embedded` and `on_server` make the database, too.

        Args:
            database: What it runs on, with nobody else.
            environment: Whose overrides of the templates apply.
        """
        self._database = database
        self._environment = environment
        self._bridge = Bridge("engine")
        self._connections = Connections(database.url)
        self._bridge.run(self._connections.open())
        self._start()

    @classmethod
    @contextmanager
    def embedded(cls, folder: Path | None = None, *, environment: str = "test") -> Iterator[Self]:
        """Lend an engine on the embedded PostgreSQL, which takes some seconds to start.

        Args:
            folder: Where the server keeps its data; processes that share it share the server. A new one by default,
                which goes in the end.
            environment: Whose overrides of the templates apply.

        Raises:
            EmbeddedServerError: It is not installed or does not start; with what to do.
        """
        if folder is None:
            with tempfile.TemporaryDirectory(prefix="tasker-") as made, cls.embedded(Path(made)) as engine:
                yield engine
            return
        with (
            embedded_server(folder, settings=_FAST) as server,
            cls.on_server(server, environment=environment) as engine,
        ):
            yield engine

    @classmethod
    @contextmanager
    def on_server(cls, url: str, *, environment: str = "test") -> Iterator[Self]:
        """Lend an engine on a PostgreSQL that runs already, in a database that is made, and dropped in the end.

        Args:
            url: The URL of any database of the server, of a superuser.
            environment: Whose overrides of the templates apply.
        """
        database = ScratchDatabase(url)
        try:
            engine = cls(database, environment=environment)
            try:
                yield engine
            finally:
                engine.close()
        finally:
            database.drop()

    def register_handlers(self, *handlers: Any) -> None:
        """Add handlers; one that has the name of another takes its place, as stand-ins shall.

        Args:
            handlers: Decorated functions, `StepHandler` classes and instances, `fail_n_times(...)`; and modules, their
                dotted names, files or folders, of which all handlers are added, as a worker would.

        Raises:
            HandlerDefinitionError: One is no handler, or cannot work.
            HandlerImportError: A module does not import.
        """
        for one in handlers:
            if isinstance(one, (str, Path, ModuleType)):
                load_handlers(one, registry=self.handlers)
            else:
                self.handlers.replace(one)

    def register_templates(self, *templates: str | Path | Mapping[str, Any]) -> None:
        """Register templates.

        Args:
            templates: Files, folders, or what such a file contains as objects.

        Raises:
            InvalidTemplateError: One has errors; with all of them, and their lines.
            TemplateDirectoryError: There is no such file or folder.
        """
        found = [template for one in templates for template in _templates(one)]
        self._bridge.run(self._driver.register(found))
        self._templates += found

    def run(self, template: str, context: Mapping[str, Any] | None = None, **request: Any) -> Task:
        """Create a task and run all that can run now: to its end, unless it waits for a later time.

        Args:
            template: Namespace and name, as in `shop/checkout`; with a version as in `shop/checkout/1.2.0`, else the
                highest one.
            context: What the task is about.
            request: What else a client may say: `priority`, `tags`, `idempotency_key`, `correlation_id`, `initiator`,
                `source_system`, `reason`, `parent_correlation_id`.

        Raises:
            HandlerResolutionError: A step names a handler that is not there.
            TaskerError: Creating it was refused, as orchestration would refuse it.
        """
        task = self.create(template, context, **request)
        self.settle()
        return task

    def create(self, template: str, context: Mapping[str, Any] | None = None, **request: Any) -> Task:
        """Create a task, of which nothing runs yet; `settle` runs it. Arguments and errors are those of `run`."""
        namespace, name, version = _named(template)
        self._check_handlers(namespace, name)
        task_uuid = self._bridge.run(
            self._driver.create(NewTask(namespace, name, version, context, **request))
        )
        return Task(task_uuid, self._driver.reader, self._bridge)

    def settle(self) -> None:
        """Run all that can run at this time, of all tasks."""
        self._bridge.run(self._driver.settle())

    def advance(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move the clock on, and run all that can run then.

        Args:
            by: How far; what the others say is added.
            days: Days of it.
            hours: Hours of it.
            minutes: Minutes of it.
            seconds: Seconds of it.
        """
        more = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        self._bridge.run(self._driver.move_clock((by or timedelta()) + more))
        self.settle()

    def finish(self, task: Task) -> Task:
        """Move the clock from one retry to the next until a task is over or blocked by failures, and return it.

        Raises:
            TaskNotOverError: It waits for something else than the time.
        """
        self.settle()
        while not (state := task.state).is_settled:
            due = self._bridge.run(self._driver.next_due())
            if due is None:
                steps = ", ".join(f"{step.name}: {step.state}" for step in task.steps.values())
                raise TaskNotOverError(f"task {task.task_uuid} is {state} and waits for no time: {steps}")
            self.advance(due)
        return task

    def now(self) -> datetime:
        """Return the time by the engine's clock."""
        return self._bridge.run(self._driver.now())

    def reset(self) -> None:
        """Forget all tasks, templates and handlers, and set the clock right."""
        self._bridge.run(self._driver.stop())
        self._database.empty()
        self._start()

    def close(self) -> None:
        """Disconnect."""

        async def end() -> None:
            await self._driver.stop()
            await self._connections.close()

        self._bridge.close(end)

    def _start(self) -> None:
        self.handlers = HandlerRegistry()
        self._templates: list[Template] = []

        async def start() -> Driver:
            driver = Driver(self._connections, self.handlers, environment=self._environment)
            await driver.start()
            return driver

        self._driver = self._bridge.run(start())

    def _check_handlers(self, namespace: str, name: str) -> None:
        """Raise for a handler that is missing: its step would wait for a worker that has it."""
        for template in self._templates:
            if (template.namespace_name, template.name) == (namespace, name):
                for step in template.steps:
                    wanted = step.handler
                    self.handlers.resolve(wanted.callable, wanted.method, wanted.resolver)


def _named(template: str) -> tuple[str, str, str]:
    """Take a name apart."""
    match template.split("/"):
        case [namespace, name]:
            return namespace, name, ""
        case [namespace, name, version]:
            return namespace, name, version
    raise InvalidArgumentError.of(
        "template", f"must be namespace/name or namespace/name/version, not {template!r}"
    )


def _templates(where: str | Path | Mapping[str, Any]) -> Iterator[Template]:
    if isinstance(where, Mapping):
        yield parse(where)
        return
    path = Path(where)
    for file in [path] if path.is_file() else template_files(path):
        for document in load_documents(file.read_text(encoding="utf-8"), str(file)):
            yield parse(document)
