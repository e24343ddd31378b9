"""Settings of how much may wait before new tasks are refused."""

from __future__ import annotations

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from tasker.domain.backpressure import DepthLimits


class BackpressureSettings(BaseModel):
    """Limits of what waits; a part of the orchestration's."""

    backpressure_enabled: bool = Field(True, validation_alias="TASKER_BACKPRESSURE_ENABLED")
    worker_queue_warning_depth: int = Field(
        100_000, validation_alias="TASKER_WORKER_QUEUE_WARNING_DEPTH", ge=1
    )
    worker_queue_critical_depth: int = Field(
        1_000_000, validation_alias="TASKER_WORKER_QUEUE_CRITICAL_DEPTH", ge=1, validate_default=True
    )
    worker_queue_overflow_depth: int = Field(
        2_000_000, validation_alias="TASKER_WORKER_QUEUE_OVERFLOW_DEPTH", ge=1, validate_default=True
    )
    result_queue_warning_depth: int = Field(
        10_000, validation_alias="TASKER_RESULT_QUEUE_WARNING_DEPTH", ge=1
    )
    result_queue_critical_depth: int = Field(
        100_000, validation_alias="TASKER_RESULT_QUEUE_CRITICAL_DEPTH", ge=1, validate_default=True
    )
    result_queue_overflow_depth: int = Field(
        200_000, validation_alias="TASKER_RESULT_QUEUE_OVERFLOW_DEPTH", ge=1, validate_default=True
    )

    @field_validator(
        "worker_queue_critical_depth",
        "worker_queue_overflow_depth",
        "result_queue_critical_depth",
        "result_queue_overflow_depth",
    )
    @classmethod
    def _not_below_the_one_before(cls, value: int, info: ValidationInfo) -> int:
        name = str(info.field_name)
        before = (
            name.replace("overflow", "critical")
            if "overflow" in name
            else name.replace("critical", "warning")
        )
        if before in info.data and value < info.data[before]:
            lower = cls.model_fields[before].validation_alias
            raise ValueError(f"{value} is less than {lower}, which is {info.data[before]}")
        return value

    @property
    def worker_queue_limits(self) -> DepthLimits:
        """For the steps of one namespace that wait for workers."""
        return DepthLimits(
            self.worker_queue_warning_depth,
            self.worker_queue_critical_depth,
            self.worker_queue_overflow_depth,
        )

    @property
    def result_queue_limits(self) -> DepthLimits:
        """For the results that wait for orchestration."""
        return DepthLimits(
            self.result_queue_warning_depth,
            self.result_queue_critical_depth,
            self.result_queue_overflow_depth,
        )
