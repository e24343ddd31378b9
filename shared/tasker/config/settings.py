"""What can be set, by environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasker.config.backpressure import BackpressureSettings
from tasker.config.dlq import DlqSettings
from tasker.config.security import SecuritySettings
from tasker.domain.context import InputValidation
from tasker.domain.errors import TaskerError


class SettingsError(TaskerError):
    """A setting is missing or wrong; the message names the variable and the fix, never the value."""

    reason = "SETTINGS_INVALID"


class Settings(BaseSettings):
    """The settings both services share. Values that may hold a password print as asterisks."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    environment: str = Field("development", validation_alias="TASKER_ENV", pattern=r"^[a-z][a-z0-9_]*$")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="TASKER_LOG_LEVEL"
    )
    log_format: Literal["auto", "json", "console"] = Field("auto", validation_alias="TASKER_LOG_FORMAT")
    shutdown_timeout_seconds: float = Field(
        30, validation_alias="TASKER_SHUTDOWN_TIMEOUT_SECONDS", gt=0, le=3600
    )
    loop_blocked_seconds: float = Field(5, validation_alias="TASKER_LOOP_BLOCKED_SECONDS", gt=0, le=3600)

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` come before it.

        Raises:
            SettingsError: With every variable that is missing or wrong.
        """
        try:
            given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
            return cls(**given)
        except ValidationError as error:
            raise SettingsError("; ".join(cls._problems(error))) from None

    @classmethod
    def _problems(cls, error: ValidationError) -> list[str]:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            if not problem["loc"]:  # about several together
                problems.append(problem["msg"].removeprefix("Value error, "))
                continue
            name = str(problem["loc"][0])
            if name in cls.model_fields:  # of a default that does not fit what was given
                name = str(cls.model_fields[name].validation_alias)
            if problem["type"] == "missing":
                hint = " (postgresql://user:password@host:port/database)" if name == "DATABASE_URL" else ""
                problems.append(f"{name} is not set{hint}")
            else:
                problems.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
        return problems


class OrchestrationSettings(DlqSettings, BackpressureSettings, SecuritySettings, Settings):
    """The orchestration service."""

    bind_address: str = Field("127.0.0.1:9190", validation_alias="TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS")
    input_validation: InputValidation = Field(
        InputValidation.ENFORCE, validation_alias="TASKER_INPUT_VALIDATION"
    )
    retention_days: int = Field(90, validation_alias="TASKER_RETENTION_DAYS", ge=0, le=36_500)
    retention_batch_size: int = Field(100, validation_alias="TASKER_RETENTION_BATCH_SIZE", ge=1, le=10_000)
    max_open_streams: int = Field(5000, validation_alias="TASKER_MAX_OPEN_STREAMS", ge=1, le=100_000)
    # Decisions and batches.
    decisions_enabled: bool = Field(True, validation_alias="TASKER_DECISIONS_ENABLED")
    max_steps_per_decision: int = Field(
        100, validation_alias="TASKER_MAX_STEPS_PER_DECISION", ge=1, le=10_000
    )
    max_decision_depth: int = Field(20, validation_alias="TASKER_MAX_DECISION_DEPTH", ge=1, le=1000)
    warn_steps_per_decision: int = Field(50, validation_alias="TASKER_WARN_STEPS_PER_DECISION", ge=1)
    warn_decision_depth: int = Field(10, validation_alias="TASKER_WARN_DECISION_DEPTH", ge=1)
    batches_enabled: bool = Field(True, validation_alias="TASKER_BATCHES_ENABLED")
    max_parallel_batches: int = Field(50, validation_alias="TASKER_MAX_PARALLEL_BATCHES", ge=1, le=1000)


class WorkerSettings(SecuritySettings, Settings):
    """The worker service."""

    bind_address: str = Field("127.0.0.1:9191", validation_alias="TASKER_WORKER_GRPC_BIND_ADDRESS")
    template_path: Path = Field(Path("config/tasks"), validation_alias="TASKER_TEMPLATE_PATH")
    strict_templates: bool = Field(False, validation_alias="TASKER_STRICT_TEMPLATES")
    force_overwrite: bool = Field(False, validation_alias="TASKER_TEMPLATES_FORCE_OVERWRITE")
    handler_path: str | None = Field(None, validation_alias="PYTHON_HANDLER_PATH")
    strict_handlers: bool = Field(False, validation_alias="TASKER_STRICT_HANDLERS")
    slots: int = Field(100, validation_alias="TASKER_WORKER_SLOTS", ge=1, le=10_000)
    handler_timeout_seconds: float = Field(
        30, validation_alias="TASKER_HANDLER_TIMEOUT_SECONDS", gt=0, le=3600
    )
    result_validation: Literal["off", "warn", "enforce"] = Field(
        "warn", validation_alias="TASKER_RESULT_VALIDATION"
    )
    direct_completion: bool = Field(True, validation_alias="TASKER_WORKER_DIRECT_COMPLETION")
    refusal_limit_seconds: float = Field(
        60, validation_alias="TASKER_HANDLER_MISSING_SECONDS", ge=0, le=86_400
    )
