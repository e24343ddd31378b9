"""Steps that decide which steps come next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from tasker.domain.results import ErrorType
from tasker.worker.handlers.classes import StepHandler
from tasker.worker.handlers.errors import StepExecutionError
from tasker.worker.handlers.functions import Kind, decorator
from tasker.worker.handlers.results import Outcome, StepHandlerResult

#: Names of steps. Not `Sequence[str]`, which a single text would be too.
StepNames: TypeAlias = list[str] | tuple[str, ...]

#: What goes wrong in a decision itself, where its handler says so.
DECISION_ERROR = "decision_error"


@dataclass(frozen=True, slots=True)
class DecisionPointOutcome(Outcome):
    """What a decision step decided.

    Attributes:
        step_names: The steps to create.
        reason: Why nothing follows; None if it is the steps that follow.
        routing_context: Facts behind the decision, stored with it for people and later steps.
    """

    step_names: tuple[str, ...] = ()
    reason: str | None = None
    routing_context: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def create_steps(cls, step_names: StepNames, routing_context: Mapping[str, Any] | None = None) -> Self:
        """Return the decision for some steps; names given twice count once.

        Raises:
            ValueError: Something in it is no name.
        """
        return cls(_names(step_names), None, routing_context or {})

    @classmethod
    def no_branches(cls, reason: str, routing_context: Mapping[str, Any] | None = None) -> Self:
        """Return the decision that nothing follows."""
        return cls((), reason, routing_context or {})

    def to_json(self) -> dict[str, Any]:
        """Return the result of the step: what orchestration reads, and the facts beside it."""
        if self.reason is None:
            outcome: dict[str, Any] = {"type": "create_steps", "step_names": list(self.step_names)}
            return {"decision_point_outcome": outcome, "routing_context": dict(self.routing_context)}
        skipped = {"decision_point_outcome": {"type": "no_branches"}, "reason": self.reason}
        return skipped | ({"routing_context": dict(self.routing_context)} if self.routing_context else {})


class Decision(DecisionPointOutcome):
    """A decision as functions return it: `Decision.route(["ship"], carrier="rail")` or `Decision.skip("empty")`."""

    __slots__ = ()

    @classmethod
    def route(cls, step_names: StepNames, /, **routing_context: Any) -> Self:
        """Return the decision for some steps, and the facts behind it.

        Raises:
            ValueError: Something in it is no name.
        """
        return cls.create_steps(step_names, routing_context)

    @classmethod
    def skip(cls, reason: str, /, **routing_context: Any) -> Self:
        """Return the decision that nothing follows, and the facts behind it."""
        return cls.no_branches(reason, routing_context)


class DecisionMixin:
    """What classes say decisions with: `class Route(StepHandler, DecisionMixin)`."""

    capability: ClassVar[str] = "decision"

    def decision_success(
        self,
        steps: StepNames | DecisionPointOutcome,
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide for some steps, or for what an outcome says.

        Raises:
            ValueError: Something in it is no name.
        """
        if not isinstance(steps, DecisionPointOutcome):
            steps = DecisionPointOutcome.create_steps(steps, routing_context)
        elif routing_context:
            steps = DecisionPointOutcome(
                steps.step_names, steps.reason, {**steps.routing_context, **routing_context}
            )
        return StepHandlerResult.success(steps.to_json(), metadata)

    def route_to_steps(
        self,
        steps: StepNames,
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide for some steps; another name for `decision_success`."""
        return self.decision_success(steps, routing_context, metadata)

    def skip_branches(
        self,
        reason: str,
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide that nothing follows."""
        return self.decision_success(
            DecisionPointOutcome.no_branches(reason, routing_context), metadata=metadata
        )

    def decision_success_with_outcome(
        self, outcome: DecisionPointOutcome, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Decide as an outcome says."""
        return self.decision_success(outcome, metadata=metadata)

    def decision_no_branches(
        self, outcome: DecisionPointOutcome, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Decide as an outcome without branches says.

        Raises:
            ValueError: The outcome has branches.
        """
        if outcome.reason is None:
            raise ValueError(
                f"the outcome routes to {', '.join(outcome.step_names) or 'no steps'}; it is no skip"
            )
        return self.decision_success(outcome, metadata=metadata)

    def decision_failure(
        self,
        message: str,
        error_type: str = DECISION_ERROR,
        retryable: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Return a failure: no decision could be made."""
        return StepHandlerResult.failure(message, error_type, retryable, metadata)


class DecisionHandler(DecisionMixin, StepHandler):
    """A `StepHandler` that decides."""


def _names(given: object) -> tuple[str, ...]:
    """Return each name once; `given` is what an author passed, whatever its type says."""
    if isinstance(given, list | tuple) and all(isinstance(name, str) and name for name in given):
        return tuple(dict.fromkeys(given))
    raise ValueError(f"a decision takes a list of step names, not {given!r}")


_Decided: TypeAlias = DecisionPointOutcome | StepHandlerResult
DecisionFunction = TypeVar("DecisionFunction", bound=Callable[..., _Decided | Awaitable[_Decided]])


def decision_handler(name: str, version: str = "1.0.0") -> Callable[[DecisionFunction], DecisionFunction]:
    """Make a function the handler `name` of a decision step; it returns a `Decision`.

    Parameters get their values as under `@step_handler`. A function that returns anything else than a decision fails
    its step for good: nothing could follow.

    Args:
        name: What templates call it in `handler.callable`.
        version: Stored with every result as `metadata.handler_version`.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler; the message says why.
    """
    return decorator(Kind("decision_handler", finish=lambda value: _decided(name, value)), name, version)


def _decided(name: str, value: object) -> object:
    if isinstance(value, StepHandlerResult | DecisionPointOutcome):
        return value
    remedy = "return Decision.route([...]) or Decision.skip('why')"
    raise StepExecutionError(
        f"decision handler {name!r} returned {type(value).__name__}; {remedy}",
        ErrorType.DECISION_OUTCOME_INVALID,
        retryable=False,
    )
