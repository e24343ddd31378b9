"""The template document, key by key (spec 40 section 1)."""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final, LiteralString, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tasker.domain.durations import parse_duration
from tasker.domain.identity import IdentityStrategy, canonical_json
from tasker.domain.retry import Backoff, OnWorkerLost

#: The PGMQ limit of 47 minus the longest suffix we append (spec 40 section 1.1).
MAX_NAMESPACE_CHARACTERS: Final = 29
_MAX_INT32: Final = 2_147_483_647

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)
_EVENT_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+", re.ASCII)


class StepType(StrEnum):
    """What a step is to the engine."""

    STANDARD = "standard"
    DECISION = "decision"
    DEFERRED_CONVERGENCE = "deferred_convergence"
    BATCHABLE = "batchable"
    BATCH_WORKER = "batch_worker"


class FailureStrategy(StrEnum):
    """What one failed batch instance means for the others (spec 40 section 6.3)."""

    CONTINUE_ON_FAILURE = "continue_on_failure"
    FAIL_FAST = "fail_fast"
    ISOLATE = "isolate"


class EventCondition(StrEnum):
    """When a declared event is published."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRYABLE_FAILURE = "retryable_failure"
    PERMANENT_FAILURE = "permanent_failure"
    ALWAYS = "always"


class DeliveryMode(StrEnum):
    """How a domain event travels (spec 30 section 10)."""

    DURABLE = "durable"
    FAST = "fast"
    BROADCAST = "broadcast"


class StalenessAction(StrEnum):
    """What detection does with a stale task."""

    DLQ = "dlq"
    ERROR = "error"
    NONE = "none"


def _refusal(code: LiteralString, problem: str) -> PydanticCustomError:
    """Make a validation error whose type is one of our finding codes."""
    return PydanticCustomError(code, "{problem}", {"problem": problem})


def _between(low: int, high: int) -> AfterValidator:
    def check(value: int) -> int:
        if not low <= value <= high:
            raise _refusal("OUT_OF_RANGE", f"{value} not in {low}..{high}")
        return value

    return AfterValidator(check)


def _characters(high: int) -> AfterValidator:
    def check(value: str) -> str:
        if not 1 <= len(value) <= high:
            raise _refusal("OUT_OF_RANGE", f"length {len(value)} not in 1..{high}")
        return value

    return AfterValidator(check)


def _check_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise _refusal("INVALID_NAME", f"'{value}' must match ^[a-z][a-z0-9_]*$")
    return value


def _check_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None:
        raise _refusal("INVALID_NAME", f"'{value}' must match ^[a-z_][a-z0-9_]*$")
    if (length := len(value)) > MAX_NAMESPACE_CHARACTERS:
        limit = MAX_NAMESPACE_CHARACTERS
        raise _refusal("NAMESPACE_TOO_LONG", f"namespace '{value}' has {length} characters, maximum {limit}")
    return value


def _check_version(value: str) -> str:
    if _VERSION.fullmatch(value) is None or len(value) > 50:
        raise _refusal("INVALID_VERSION", f"version '{value}' must be x.y.z")
    return value


def _check_callable(value: str) -> str:
    if not value.strip():
        raise _refusal("EMPTY_CALLABLE", "handler.callable is empty; name the handler that runs the step")
    return value


def _check_event_name(value: str) -> str:
    if _EVENT_NAME.fullmatch(value) is None:
        raise _refusal(
            "INVALID_EVENT", f"event '{value}' must be dotted lower-case words such as order.shipped"
        )
    return value


def _check_duration(value: str) -> str:
    try:
        parse_duration(value)
    except ValueError as error:
        raise _refusal("OUT_OF_RANGE", str(error)) from None
    return value


def _enum(*, strict: bool = False) -> Any:
    """Let an enum be written as its value, which strict mode would refuse."""
    return Field(strict=strict)


JsonSchema = dict[str, Any]
_Name = Annotated[str, AfterValidator(_check_name), _characters(255)]
_EventName = Annotated[str, AfterValidator(_check_event_name), _characters(255)]
_Attempts = Annotated[int, _between(1, _MAX_INT32)]
_BaseMs = Annotated[int, _between(100, 3_600_000)]
_CapMs = Annotated[int, _between(1000, 3_600_000)]
_TimeoutSeconds = Annotated[int, _between(1, 3600)]
_StateMinutes = Annotated[int, _between(1, 10_080)]
_OnWorkerLost = Annotated[OnWorkerLost, _enum()]


class Part(BaseModel):
    """What all parts share: exact types, no changes afterwards, keys of later releases ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", protected_namespaces=())


class Handler(Part):
    """What runs a step."""

    callable: Annotated[str, AfterValidator(_check_callable), _characters(500)]
    method: Annotated[str, _characters(255)] = "call"
    resolver: Annotated[str, _characters(255)] | None = None
    initialization: dict[str, Any] = {}


class RetryRules(Part):
    """The retry rules of a step; `max_attempts` counts every execution (spec 40 section 1.3)."""

    retryable: bool = True
    max_attempts: _Attempts = 3
    backoff: Annotated[Backoff, _enum()] = Backoff.EXPONENTIAL
    backoff_base_ms: _BaseMs = 1000
    max_backoff_ms: _CapMs = 30_000

    @model_validator(mode="before")
    @classmethod
    def _lift_the_default_cap(cls, data: Any) -> Any:
        """Let a base above the default cap stand alone: the cap follows it."""
        if isinstance(data, dict) and data.get("max_backoff_ms") is None:
            base = data.get("backoff_base_ms")
            if isinstance(base, int) and 30_000 < base <= 3_600_000:
                return data | {"max_backoff_ms": base}
        return data

    @model_validator(mode="after")
    def _check_cap(self) -> Self:
        if self.max_backoff_ms < self.backoff_base_ms:
            problem = (
                f"max_backoff_ms {self.max_backoff_ms} not in {self.backoff_base_ms}..3600000 (base..limit)"
            )
            raise _refusal("OUT_OF_RANGE", problem)
        return self


class RetryOverride(Part):
    """The retry rules an environment changes; what it leaves out stays."""

    retryable: bool | None = None
    max_attempts: _Attempts | None = None
    backoff: Annotated[Backoff | None, _enum()] = None
    backoff_base_ms: _BaseMs | None = None
    max_backoff_ms: _CapMs | None = None


class BatchConfig(Part):
    """How a batchable step is split (spec 40 section 1.4)."""

    worker_template: str
    batch_size: Annotated[int, _between(1, 100_000)] = 1000
    parallelism: Annotated[int, _between(1, 1000)] = 10
    cursor_field: Annotated[str, _characters(255)] = "id"
    failure_strategy: Annotated[FailureStrategy, _enum()] = FailureStrategy.FAIL_FAST


class DomainEvent(Part):
    """An event the template talks about; a catalogue entry only."""

    name: _EventName
    description: str | None = None
    payload_schema: JsonSchema | None = Field(default=None, alias="schema")


class PublishedEvent(DomainEvent):
    """An event a step publishes (spec 30 section 10)."""

    condition: Annotated[EventCondition, _enum()] = EventCondition.SUCCESS
    delivery_mode: Annotated[DeliveryMode, _enum()] = DeliveryMode.DURABLE
    publisher: str | None = None


class Step(Part):
    """One node of the workflow (spec 40 section 1.2)."""

    name: _Name
    type: Annotated[StepType, _enum()] = StepType.STANDARD
    dependencies: list[str] = []
    handler: Handler
    retry: RetryRules = RetryRules()
    timeout_seconds: _TimeoutSeconds | None = None
    on_worker_lost: _OnWorkerLost | None = None
    description: str | None = None
    system_dependency: str | None = None
    publishes_events: list[PublishedEvent] = []
    batch_config: BatchConfig | None = None
    result_schema: JsonSchema | None = None
    composition: Any = None


class HandlerOverride(Part):
    """What an environment changes of a handler."""

    initialization: dict[str, Any] = {}


class StepOverride(Part):
    """What an environment changes of one step, or of `ALL`."""

    name: str
    handler: HandlerOverride = HandlerOverride()
    timeout_seconds: _TimeoutSeconds | None = None
    retry: RetryOverride = RetryOverride()


class Environment(Part):
    """The overrides of one environment, applied in order."""

    steps: list[StepOverride] = []


class Lifecycle(Part):
    """How long a task may take and stand still (spec 40 section 1.8)."""

    max_duration_minutes: Annotated[int, _between(1, 43_200)] | None = None
    max_waiting_for_dependencies_minutes: _StateMinutes | None = None
    max_waiting_for_retry_minutes: _StateMinutes | None = None
    max_steps_in_process_minutes: _StateMinutes | None = None
    staleness_action: Annotated[StalenessAction, _enum()] = StalenessAction.DLQ
    auto_fail_on_timeout: bool | None = None
    auto_dlq_on_timeout: bool | None = None


class SystemDependencies(Part):
    """Systems the workflow talks to; documentation only."""

    primary: str = "default"
    secondary: list[str] = []


class Template(Part):
    """One version of a workflow (spec 40 section 1.1).

    `Template.model_validate` reads what `to_json` wrote. Documents from people go through
    `validation.parse`, which knows the aliases and old keys and reports everything at once.
    """

    name: _Name
    namespace_name: Annotated[str, AfterValidator(_check_namespace)]
    version: Annotated[str, AfterValidator(_check_version)]
    description: str | None = None
    metadata: dict[str, Any] | None = None
    system_dependencies: SystemDependencies = SystemDependencies()
    domain_events: list[DomainEvent] = []
    input_schema: JsonSchema | None = None
    steps: list[Step]
    environments: dict[str, Environment] = {}
    lifecycle: Lifecycle | None = None
    identity_strategy: Annotated[IdentityStrategy, _enum()] = IdentityStrategy.STRICT
    default_context: dict[str, Any] = {}
    default_options: dict[str, Any] = {}
    ttl: Annotated[str, AfterValidator(_check_duration)] | None = None
    on_worker_lost: _OnWorkerLost = OnWorkerLost.RETRY
    loaded_from: str | None = Field(default=None, exclude=True)

    @property
    def key(self) -> str:
        """The triple as people write it: `orders/checkout:1.2.0`."""
        return f"{self.namespace_name}/{self.name}:{self.version}"

    def to_json(self) -> dict[str, Any]:
        """Return the whole document, defaults written out: later defaults change no registered template."""
        return self.model_dump(mode="json", by_alias=True)


def digest(template: Template) -> bytes:
    """Return 32 bytes that are equal for documents that mean the same.

    Aliases, key order, comments and defaults written out make no difference, nor does the file it came
    from. Defaults are left out of the hash, so that a release that adds an optional key changes no digest.
    """
    return sha256(
        canonical_json(template.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    ).digest()
