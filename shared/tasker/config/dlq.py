"""Settings of the DLQ and of the staleness of tasks."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field

from tasker.domain.staleness import StalenessLimits

_DEFAULTS: Final = StalenessLimits()


class DlqSettings(BaseModel):
    """When tasks are put before a person, and what else becomes of them then; a part of the orchestration's."""

    staleness_detection_enabled: bool = Field(True, validation_alias="TASKER_STALENESS_DETECTION_ENABLED")
    staleness_dry_run: bool = Field(False, validation_alias="TASKER_STALENESS_DRY_RUN")
    staleness_interval_seconds: int = Field(
        300, validation_alias="TASKER_STALENESS_INTERVAL_SECONDS", ge=30, le=3600
    )
    staleness_batch_size: int = Field(100, validation_alias="TASKER_STALENESS_BATCH_SIZE", ge=1, le=10_000)
    staleness_auto_transition_to_error: bool = Field(
        True, validation_alias="TASKER_STALENESS_AUTO_TRANSITION_TO_ERROR"
    )
    staleness_auto_move_to_dlq: bool = Field(True, validation_alias="TASKER_STALENESS_AUTO_MOVE_TO_DLQ")
    staleness_emit_events: bool = Field(True, validation_alias="TASKER_STALENESS_EMIT_EVENTS")
    staleness_waiting_for_dependencies_minutes: int = Field(
        _DEFAULTS.waiting_for_dependencies,
        validation_alias="TASKER_STALENESS_WAITING_FOR_DEPENDENCIES_MINUTES",
        ge=1,
        le=1440,
    )
    staleness_waiting_for_retry_minutes: int = Field(
        _DEFAULTS.waiting_for_retry,
        validation_alias="TASKER_STALENESS_WAITING_FOR_RETRY_MINUTES",
        ge=1,
        le=1440,
    )
    staleness_steps_in_process_minutes: int = Field(
        _DEFAULTS.steps_in_process,
        validation_alias="TASKER_STALENESS_STEPS_IN_PROCESS_MINUTES",
        ge=1,
        le=1440,
    )
    staleness_task_max_lifetime_hours: int = Field(
        _DEFAULTS.task_max_lifetime // 60,
        validation_alias="TASKER_STALENESS_TASK_MAX_LIFETIME_HOURS",
        ge=1,
        le=168,
    )
    staleness_checkpoint_stall_minutes: int = Field(
        _DEFAULTS.checkpoint_stall,
        validation_alias="TASKER_STALENESS_CHECKPOINT_STALL_MINUTES",
        ge=1,
        le=1440,
    )
    dlq_max_retries_exceeded: bool = Field(True, validation_alias="TASKER_DLQ_MAX_RETRIES_EXCEEDED")
    dlq_worker_unavailable: bool = Field(False, validation_alias="TASKER_DLQ_WORKER_UNAVAILABLE")
    dlq_worker_unavailable_minutes: int = Field(
        5, validation_alias="TASKER_DLQ_WORKER_UNAVAILABLE_MINUTES", ge=1, le=1440
    )
    dlq_give_up_days: int = Field(30, validation_alias="TASKER_DLQ_GIVE_UP_DAYS", ge=0, le=3650)

    @property
    def staleness_limits(self) -> StalenessLimits:
        """The limits for tasks whose template sets none."""
        return StalenessLimits(
            waiting_for_dependencies=self.staleness_waiting_for_dependencies_minutes,
            waiting_for_retry=self.staleness_waiting_for_retry_minutes,
            steps_in_process=self.staleness_steps_in_process_minutes,
            task_max_lifetime=self.staleness_task_max_lifetime_hours * 60,
            checkpoint_stall=self.staleness_checkpoint_stall_minutes,
        )
