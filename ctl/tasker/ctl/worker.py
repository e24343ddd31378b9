"""`tasker worker`: the service that runs steps."""

from __future__ import annotations

import sys
from pathlib import Path

from tasker.config.settings import WorkerSettings
from tasker.ctl.event_loop import run
from tasker.ctl.running import serve
from tasker.telemetry.logs import configure_logs
from tasker.worker import HandlerRegistry, load_handlers
from tasker.worker.service import WorkerService


def worker() -> None:
    """Run a worker.

    Until SIGTERM or Ctrl-C: then it claims no more and finishes the steps that run. A second signal ends it at once.

    Settings: DATABASE_URL, TASKER_TEMPLATE_PATH (config/tasks), PYTHON_HANDLER_PATH (a module, file or folder),
    TASKER_WORKER_GRPC_BIND_ADDRESS (127.0.0.1:9191), TASKER_WORKER_SLOTS, TASKER_HANDLER_TIMEOUT_SECONDS,
    TASKER_HANDLER_MISSING_SECONDS, TASKER_WORKER_DIRECT_COMPLETION (true), TASKER_STRICT_TEMPLATES (false),
    TASKER_STRICT_HANDLERS (false: handlers that do not fit the templates are logged; true: they stop the start),
    TASKER_TEMPLATES_FORCE_OVERWRITE (false), TASKER_RESULT_VALIDATION (warn; or off, enforce), TASKER_ENV,
    TASKER_LOG_LEVEL, TASKER_LOG_FORMAT, TASKER_SHUTDOWN_TIMEOUT_SECONDS.
    """
    settings = WorkerSettings.load()
    configure_logs(settings.log_level, format=settings.log_format)
    run(_serve(settings, handlers_at(settings.handler_path)))


def handlers_at(path: str | None) -> HandlerRegistry:
    """Return the handlers of a module, file or folder; without one templates name theirs by dotted path.

    Modules are found from the current folder, as with `python -m`.

    Raises:
        HandlerImportError: A module does not import.
        HandlerDefinitionError: A handler cannot work.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return load_handlers(path) if path else HandlerRegistry()


async def _serve(settings: WorkerSettings, registry: HandlerRegistry) -> None:
    await serve([WorkerService(settings, registry)])
