"""`tasker orchestration`: the service that decides what runs next."""

from __future__ import annotations

from tasker.config.settings import OrchestrationSettings
from tasker.ctl.event_loop import run
from tasker.ctl.running import serve
from tasker.orchestration.service import OrchestrationService
from tasker.telemetry.logs import configure_logs


def orchestration() -> None:
    """Run the orchestration service.

    Until SIGTERM or Ctrl-C: then it finishes the calls at hand. A second signal ends it at once.

    Settings: DATABASE_URL, TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS (127.0.0.1:9190), TASKER_INPUT_VALIDATION
    (enforce, warn or off), TASKER_RETENTION_DAYS (90), TASKER_DECISIONS_ENABLED, TASKER_BATCHES_ENABLED,
    TASKER_ENV, TASKER_LOG_LEVEL, TASKER_LOG_FORMAT, TASKER_SHUTDOWN_TIMEOUT_SECONDS; the limits of decisions and
    batches are in docs/templates.md, TASKER_STALENESS_... and TASKER_DLQ_... in docs/dlq.md, those of queues and of
    health in docs/operations.md.
    """
    settings = OrchestrationSettings.load()
    configure_logs(settings.log_level, format=settings.log_format)
    run(_serve(settings))


async def _serve(settings: OrchestrationSettings) -> None:
    await serve([OrchestrationService(settings)])
