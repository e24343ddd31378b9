"""`tasker dev`: a database and both services in one terminal."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.ctl.event_loop import run
from tasker.ctl.remote import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from tasker.ctl.running import serve, undisturbed
from tasker.ctl.worker import handlers_at
from tasker.domain.templates.document import Template
from tasker.orchestration.service import OrchestrationService
from tasker.persistence.connections import conninfo
from tasker.persistence.embedded import embedded_server
from tasker.persistence.migrations import migrate
from tasker.telemetry.logs import configure_logs
from tasker.version import VERSION
from tasker.worker import HandlerRegistry
from tasker.worker.service import WorkerService

#: Where each service listens unless told otherwise: on this machine only.
_ORCHESTRATION: Final = ("TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS", 9190)
_WORKER: Final = ("TASKER_WORKER_GRPC_BIND_ADDRESS", 9191)


def dev(
    templates: Annotated[
        Path | None,
        typer.Option(
            help="Template files.", envvar="TASKER_TEMPLATE_PATH", metavar="DIR", show_default="config/tasks"
        ),
    ] = None,
    handlers: Annotated[
        str | None,
        typer.Option(
            help="Module, file or folder of handlers.",
            envvar="PYTHON_HANDLER_PATH",
            metavar="MODULE",
            show_default="what the templates name by dotted path",
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Data of the embedded PostgreSQL.", metavar="DIR")] = Path(
        ".tasker/dev"
    ),
    orchestration_port: Annotated[
        int | None,
        typer.Option(help="0 takes any free one.", min=0, max=65535, metavar="PORT", show_default="9190"),
    ] = None,
    worker_port: Annotated[
        int | None,
        typer.Option(help="0 takes any free one.", min=0, max=65535, metavar="PORT", show_default="9191"),
    ] = None,
) -> None:
    """Run PostgreSQL and both services here.

    Until Ctrl-C, in one process that shares nothing but the database.

    With DATABASE_URL set that database is used (and migrated) instead of an embedded one.
    """
    console = Console(soft_wrap=True, highlight=False)
    registry = handlers_at(handlers)
    given = os.environ.get("DATABASE_URL")
    with migrated_database(given, data_dir, console) as database_url:
        orchestration = OrchestrationSettings.load(
            database_url=database_url, bind_address=_bind_address(*_ORCHESTRATION, orchestration_port)
        )
        worker = WorkerSettings.load(
            database_url=database_url,
            bind_address=_bind_address(*_WORKER, worker_port),
            template_path=templates,
            refusal_limit_seconds=_refusal_limit(),
        )
        configure_logs(worker.log_level, format=worker.log_format)
        where = "the one that DATABASE_URL names" if given else f"{data_dir} (embedded PostgreSQL)"
        run(_serve(orchestration, worker, registry, console, where))
    console.print("Stopped.")


@contextmanager
def migrated_database(given: str | None, data_dir: Path, console: Console) -> Iterator[str]:
    """Yield the URL of a database with our schema: the given one, or that of an embedded server."""
    if given:
        migrate(conninfo(given, application_name="tasker-migrate"))
        yield given
        return
    with ExitStack() as stack:
        with console.status("Starting PostgreSQL ..."):
            database_url = stack.enter_context(_server(data_dir))
            migrate(database_url)
        yield database_url


@contextmanager
def _server(data_dir: Path) -> Iterator[str]:
    """Run an embedded server that no signal leaves behind, half started or half stopped."""
    with ExitStack() as stack:
        with undisturbed():
            database_url = stack.enter_context(embedded_server(data_dir))
        try:
            yield database_url
        finally:
            with undisturbed():
                stack.close()


async def _serve(
    orchestration_settings: OrchestrationSettings,
    worker_settings: WorkerSettings,
    registry: HandlerRegistry,
    console: Console,
    database: str,
) -> None:
    orchestration = OrchestrationService(orchestration_settings)
    worker = WorkerService(worker_settings, registry)

    def announce() -> None:
        # Handlers that create tasks themselves find this orchestration service, whatever its port.
        os.environ.setdefault(ADDRESS_VARIABLE, orchestration.address)
        registration = worker.worker.registration
        console.print(f"\n[bold]Tasker {VERSION} is ready.[/] Ctrl-C stops it.")
        console.print(f"  orchestration  {orchestration.address}")
        console.print(f"  worker         {worker.address}")
        console.print(f"  database       {database}")
        console.print(f"  templates      {_summary(registration.templates, registration.errors)}")
        if registration.templates:
            console.print("\nCreate a task:")
            console.print(
                f"  {_create_command(registration.templates[0], orchestration.address)}", markup=False
            )
        console.print()

    await serve([orchestration, worker], when_ready=announce)


def _bind_address(variable: str, port: int, wanted: int | None) -> str | None:
    """Return where to listen; None leaves it to the environment variable."""
    if wanted is None and os.environ.get(variable):
        return None
    return f"127.0.0.1:{port if wanted is None else wanted}"


def _refusal_limit() -> float | None:
    """Return how long a step waits for its handler: not at all, since nobody else will come along with it.

    A worker of another process that offers it is waited for all the same. None leaves it to the environment variable.
    """
    return None if os.environ.get("TASKER_HANDLER_MISSING_SECONDS") else 0


def _summary(templates: list[Template], errors: list[str]) -> str:
    names = ", ".join(sorted({template.key for template in templates}))
    refused = f"; {len(errors)} problems, see the log" if errors else ""
    return f"{len(templates)} ({names or 'none'}){refused}"


def _create_command(template: Template, address: str) -> str:
    context = example_of(template.input_schema or {"type": "object"})
    words = ["tasker", "task", "create", f"{template.namespace_name}/{template.name}"]
    words += ["--context", json.dumps(context), "--watch"]
    return shlex.join(words if address == DEFAULT_ADDRESS else [*words, "--address", address])


def example_of(schema: dict[str, Any]) -> Any:
    """Return a value that looks like what a schema asks for: its own example, or one of required parts only."""
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    if "default" in schema:
        return schema["default"]
    properties = schema.get("properties", {})
    match schema.get("type"):
        case "object":
            return {name: example_of(properties.get(name, {})) for name in schema.get("required", ())}
        case "array":
            return [example_of(schema["items"])] if isinstance(schema.get("items"), dict) else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "..."
