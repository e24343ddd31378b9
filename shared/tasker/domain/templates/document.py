"""The template document, key by key.

What stands below a key is what editors show for it, see `editor_schema`.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasker.domain.identity import IdentityStrategy, canonical_json
from tasker.domain.retry import Backoff, OnWorkerLost
from tasker.domain.templates.values import (
    Attempts,
    BaseMs,
    Between,
    Callable,
    CapMs,
    Duration,
    EventName,
    JsonSchema,
    Name,
    Namespace,
    StateMinutes,
    Text255,
    TimeoutSeconds,
    Version,
    as_written,
    refusal,
)


class StepType(StrEnum):
    """What a step is to the engine."""

    STANDARD = "standard"
    DECISION = "decision"
    DEFERRED_CONVERGENCE = "deferred_convergence"
    BATCHABLE = "batchable"
    BATCH_WORKER = "batch_worker"

    @property
    def adds_steps(self) -> bool:
        """Whether the completion of such a step may add others to its task."""
        return self in (StepType.DECISION, StepType.BATCHABLE)

    @property
    def is_always_dynamic(self) -> bool:
        """Whether such a step never begins with its task, and no outcome names it.

        Only batches (batch_worker) and the settle rule (deferred_convergence) create it.
        """
        return self in (StepType.BATCH_WORKER, StepType.DEFERRED_CONVERGENCE)


class FailureStrategy(StrEnum):
    """What one failed batch instance means for the others."""

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
    """How a domain event travels."""

    DURABLE = "durable"
    FAST = "fast"
    BROADCAST = "broadcast"


class StalenessAction(StrEnum):
    """What detection does with a stale task."""

    DLQ = "dlq"
    ERROR = "error"
    NONE = "none"


_OnWorkerLost = Annotated[OnWorkerLost, as_written()]


class Part(BaseModel):
    """What all parts share: exact types, no changes afterwards, keys of later releases ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", protected_namespaces=())


class Handler(Part):
    """What runs a step."""

    callable: Callable
    """The name of a handler, or its dotted path."""
    method: Text255 = "call"
    """The method of a handler class."""
    resolver: Text255 | None = None
    """The only resolver to ask for the handler."""
    initialization: dict[str, Any] = {}
    """Settings of this step, which its handler can read."""


class RetryRules(Part):
    """Whether and when a failed step runs again."""

    retryable: bool = True
    """Whether a failure may be followed by another attempt."""
    max_attempts: Attempts = 3
    """How often the step runs at most, the first time included."""
    backoff: Annotated[Backoff, as_written()] = Backoff.EXPONENTIAL
    """How the wait grows from attempt to attempt."""
    backoff_base_ms: BaseMs = 1000
    """The first wait, in milliseconds."""
    max_backoff_ms: CapMs = 30_000
    """The longest wait, in milliseconds."""

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
            raise refusal("OUT_OF_RANGE", problem)
        return self


class RetryOverride(Part):
    """The retry rules an environment changes; what it leaves out stays."""

    retryable: bool | None = None
    """Whether a failure may be followed by another attempt."""
    max_attempts: Attempts | None = None
    """How often the step runs at most, the first time included."""
    backoff: Annotated[Backoff | None, as_written()] = None
    """How the wait grows from attempt to attempt."""
    backoff_base_ms: BaseMs | None = None
    """The first wait, in milliseconds."""
    max_backoff_ms: CapMs | None = None
    """The longest wait, in milliseconds."""


class BatchConfig(Part):
    """How a batchable step is split."""

    worker_template: str
    """The batch_worker step that runs once for each batch."""
    batch_size: Annotated[int, Between(1, 100_000)] = 1000
    """How many items make a batch."""
    parallelism: Annotated[int, Between(1, 1000)] = 10
    """How many batches may run at once."""
    cursor_field: Text255 = "id"
    """The field of an item that batches count by."""
    failure_strategy: Annotated[FailureStrategy, as_written()] = FailureStrategy.FAIL_FAST
    """What a batch that fails for good means for the others."""


class DomainEvent(Part):
    """An event the workflow knows; a catalogue entry only."""

    name: EventName
    """Dotted lower-case words, such as `order.shipped`."""
    description: str | None = None
    """For readers."""
    payload_schema: JsonSchema | None = Field(default=None, alias="schema")
    """The JSON Schema of its payload."""


class PublishedEvent(DomainEvent):
    """An event a step publishes."""

    condition: Annotated[EventCondition, as_written()] = EventCondition.SUCCESS
    """The end of the step after which it is published."""
    delivery_mode: Annotated[DeliveryMode, as_written()] = DeliveryMode.DURABLE
    """Through a queue, inside the worker, or both."""
    publisher: str | None = None
    """What publishes it; the worker does without."""


class Step(Part):
    """One node of the workflow."""

    name: Name
    """Unique in the template; later steps and clients refer to it."""
    type: Annotated[StepType, as_written()] = StepType.STANDARD
    """What the step is to the engine."""
    dependencies: Annotated[list[str], Field(json_schema_extra={"uniqueItems": True})] = []
    """The steps that must be complete before this one starts."""
    handler: Handler
    """What runs the step: a map, or just the name of the handler."""
    retry: RetryRules = RetryRules()
    """Whether and when the step runs again after a failure."""
    timeout_seconds: TimeoutSeconds | None = None
    """How long one execution may take; without it the worker decides (30 s)."""
    on_worker_lost: _OnWorkerLost | None = None
    """What becomes of the step if its worker dies; without it the template decides."""
    description: str | None = None
    """For readers."""
    system_dependency: str | None = None
    """The system the step talks to; for readers."""
    publishes_events: list[PublishedEvent] = []
    """The events the step publishes."""
    batch_config: BatchConfig | None = None
    """How a batchable step is split."""
    result_schema: JsonSchema | None = None
    """The JSON Schema of the step's result."""
    composition: Any = None
    """Anything; stored and not interpreted."""


class HandlerOverride(Part):
    """What an environment changes of a handler."""

    initialization: dict[str, Any] = {}
    """Settings that go over those of the step, key by key."""


class StepOverride(Part):
    """What an environment changes of one step, or of `ALL`."""

    name: str
    """A step, or ALL."""
    handler: HandlerOverride = HandlerOverride()
    """Changed settings of the handler."""
    timeout_seconds: TimeoutSeconds | None = None
    """How long one execution may take."""
    retry: RetryOverride = RetryOverride()
    """Changed retry rules; what is left out stays."""


class Environment(Part):
    """The overrides of one environment, applied in order."""

    steps: list[StepOverride] = []
    """The steps that differ."""


class Lifecycle(Part):
    """How long a task may take, and how long it may stay in a state."""

    max_duration_minutes: Annotated[int, Between(1, 43_200)] | None = None
    """How long a task may exist."""
    max_waiting_for_dependencies_minutes: StateMinutes | None = None
    """How long a task may wait for steps."""
    max_waiting_for_retry_minutes: StateMinutes | None = None
    """How long a task may wait to retry."""
    max_steps_in_process_minutes: StateMinutes | None = None
    """How long steps may be in process."""
    staleness_action: Annotated[StalenessAction, as_written()] = StalenessAction.DLQ
    """What becomes of a task that is stale by these limits."""
    auto_fail_on_timeout: bool | None = None
    """Whether such a task fails by itself."""
    auto_dlq_on_timeout: bool | None = None
    """Whether such a task gets a DLQ entry by itself."""


class SystemDependencies(Part):
    """Systems the workflow talks to; for readers."""

    primary: str = "default"
    """The most important one."""
    secondary: list[str] = []
    """The others."""


class Template(Part):
    """One version of a workflow.

    `Template.model_validate` reads what `to_json` wrote. Documents from people go through
    `validation.parse`, which knows the aliases and old keys and reports everything at once.
    """

    name: Name
    """The name of the workflow, unique in its namespace."""
    namespace_name: Namespace
    """Who the workflow belongs to; workers serve whole namespaces."""
    version: Version
    """Three numbers, x.y.z; versions exist side by side."""
    description: str | None = None
    """For readers."""
    metadata: dict[str, Any] | None = None
    """For readers: author, tags, documentation_url, anything."""
    system_dependencies: SystemDependencies = SystemDependencies()
    """Systems the workflow talks to; for readers."""
    domain_events: list[DomainEvent] = []
    """The events of the workflow; a catalogue only, publishing is per step."""
    input_schema: JsonSchema | None = None
    """The JSON Schema of a task's context."""
    steps: Annotated[list[Step], Field(json_schema_extra={"minItems": 1})]
    """The nodes of the workflow."""
    environments: dict[str, Environment] = {}
    """What differs in an environment, by its name (TASKER_ENV)."""
    lifecycle: Lifecycle | None = None
    """How long a task may take, and how long it may stay in a state."""
    identity_strategy: Annotated[IdentityStrategy, as_written()] = IdentityStrategy.STRICT
    """When two requests mean the same task."""
    default_context: dict[str, Any] = {}
    """Goes under the context of every request."""
    default_options: dict[str, Any] = {}
    """Stored with the template."""
    ttl: Duration | None = None
    """How long a task may take before it is cancelled, such as 45m or 1h30m."""
    on_worker_lost: _OnWorkerLost = OnWorkerLost.RETRY
    """What becomes of a step if its worker dies."""
    loaded_from: str | None = Field(default=None, exclude=True)
    """The file it was read from; set by the loader."""

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
