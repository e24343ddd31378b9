"""What a handler raises to say how it failed, and what goes wrong around handlers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar

from tasker.domain.errors import FieldViolation, TaskerError
from tasker.worker.handlers.places import place_of

#: Seconds, a duration, or the value of a `Retry-After` header as it came (seconds or an HTTP date).
RetryAfter = float | timedelta | str

#: How many known names a message lists before it stops.
_NAMES_SHOWN = 20


class HandlerError(TaskerError):
    """Root of what handlers raise; raise one of its two branches instead.

    `metadata` is stored under `metadata.context` of the result.

    Attributes:
        message: What went wrong, for people.
        retryable: Whether another attempt may succeed; overrides the class's own answer.
        error_type: Machine-readable kind; a subclass may name its own.
        error_code: The author's own code, such as `CARD_DECLINED`.
        retry_after: When to try again at the earliest; wins over the step's backoff.
        context: Stored under `error.context` of the result.
    """

    # On the class, so that a subclass whose `__init__` forgets `super()` still says all there is to say.
    message: str = ""
    retryable: bool = True
    error_type: str = "handler_error"
    error_code: str | None = None
    retry_after: RetryAfter | None = None
    context: Mapping[str, Any] = MappingProxyType({})
    _metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
        retry_after: RetryAfter | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable
        self._metadata = dict(metadata or {})
        self.error_code = error_code
        self.retry_after = retry_after
        self.context = dict(context or {})

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The author's notes on the failure."""
        return self._metadata

    def to_dict(self) -> dict[str, Any]:
        """Return all facts as plain data, for logs."""
        retry_after = self.retry_after
        return {
            "error_class": type(self).__name__,
            "message": self.message,
            "error_type": self.error_type,
            "error_code": self.error_code,
            "retryable": self.retryable,
            "retry_after": retry_after.total_seconds() if isinstance(retry_after, timedelta) else retry_after,
            "metadata": self._metadata,
            "context": self.context,
        }


class StepExecutionError(HandlerError):
    """A failure with an `error_type` of the author's choosing."""

    def __init__(
        self,
        message: str = "",
        error_type: str = "handler_error",
        retryable: bool = True,
        *,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
        retry_after: RetryAfter | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            message,
            retryable=retryable,
            metadata=metadata,
            error_code=error_code,
            retry_after=retry_after,
            context=context,
        )
        self.error_type = error_type


class RetryableError(HandlerError):
    """The step failed for a reason that may pass; try again while attempts remain."""

    error_type = "retryable_error"


class StepTimeoutError(RetryableError):
    """Something the handler waited for took too long."""

    error_type = "timeout"


class NetworkError(RetryableError):
    """The other side could not be reached."""


class RateLimitError(RetryableError):
    """The other side asks for fewer calls; give `retry_after` if it said when."""


class ServiceUnavailableError(RetryableError):
    """The other side is down for now."""


class ResourceContentionError(RetryableError):
    """Something needed is held by somebody else: a lock, a row, a file."""


class PermanentError(HandlerError):
    """The step failed for a reason that another attempt cannot change."""

    retryable = False
    error_type = "permanent_error"


class StepValidationError(PermanentError):
    """The handler was given something it cannot work with."""

    error_type = "validation_error"


def refusal(handler_name: str, violations: Iterable[FieldViolation]) -> StepValidationError:
    """Return the error of a handler that was given what it cannot work with; it names every field."""
    found = list(violations)
    return StepValidationError(
        f"handler {handler_name!r} cannot run: {'; '.join(map(str, found))}",
        context={"fields": [{"field": v.field, "description": v.description} for v in found]},
    )


class NotFoundError(PermanentError):
    """What the handler should work on does not exist."""


class AuthenticationError(PermanentError):
    """The other side does not know who we are."""


class AuthorizationError(PermanentError):
    """The other side knows who we are and refuses."""


class ConfigurationError(PermanentError):
    """The handler or its environment is set up wrongly."""


class BusinessLogicError(PermanentError):
    """A rule of the business forbids what the step should do."""


class HandlerDefinitionError(TaskerError):
    """A handler is written in a way that cannot work; raised when it is defined or registered."""


class DuplicateHandlerError(HandlerDefinitionError):
    """Two handlers claim one name."""

    def __init__(self, name: str, registered: str, offered: str) -> None:
        super().__init__(
            f"handler name {name!r} is taken by {registered}, so {offered} cannot have it; rename one"
        )
        self.name = name


class HandlerResolutionError(TaskerError):
    """The worker cannot turn a template's `handler` into something to run.

    Attributes:
        callable_name: The template's `handler.callable`.
        error_type: What the step's result says if it comes to that.
    """

    error_type: ClassVar[str] = "handler_not_found"

    def __init__(self, message: str, callable_name: str) -> None:
        super().__init__(message)
        self.callable_name = callable_name

    @property
    def brief(self) -> str:
        """The message without what is known besides, where many are told together."""
        return str(self)


class HandlerNotFoundError(HandlerResolutionError):
    """No handler answers to a name.

    Attributes:
        known: The names that handlers answer to.
        why: What is known about the cause; empty if nothing is.
    """

    def __init__(
        self, callable_name: str, known: Iterable[str] = (), why: str = "", left_out: Iterable[str] = ()
    ) -> None:
        """`left_out` says what kept handlers from being known at all, such as modules that do not import."""
        self.known = tuple(sorted(known))
        self.why = why
        because = f" ({why})" if why else ""
        self._brief = f"no registered handler answers to {callable_name!r}{because}"
        remarks = "".join(f"; left out: {one}" for one in left_out)
        super().__init__(f"{self._brief}; known: {names_shown(self.known)}{remarks}", callable_name)

    @property
    def brief(self) -> str:
        """What is wrong, without the names that are known."""
        return self._brief


class ResolverNotFoundError(HandlerResolutionError):
    """The template's `handler.resolver` names a resolver that the worker does not have.

    Attributes:
        resolver: The name.
        known: The names of the resolvers there are.
    """

    def __init__(self, callable_name: str, resolver: str, known: Iterable[str]) -> None:
        self.resolver = resolver
        self.known = tuple(known)
        super().__init__(
            f"handler {callable_name!r} wants resolver {resolver!r}, which this worker does not have; known: "
            f"{names_shown(self.known)}; correct the template's handler.resolver, or add the resolver's class to a "
            "handler module",
            callable_name,
        )


class HandlerMethodNotFoundError(HandlerResolutionError):
    """The handler exists and lacks the template's `handler.method`, or keeps it private."""

    error_type: ClassVar[str] = "handler_method_not_found"

    def __init__(self, callable_name: str, method: str, reason: str) -> None:
        super().__init__(f"handler {callable_name!r} cannot run method {method!r}: {reason}", callable_name)
        self.method = method


class HandlerImportError(HandlerResolutionError):
    """A module that should hold handlers fails to import; its own error is the `__cause__`.

    Attributes:
        module: Name or path of the module.
    """

    def __init__(self, module: str, cause: BaseException, callable_name: str | None = None) -> None:
        place = place_of(cause)
        super().__init__(
            f"handler module {module!r} does not import: {type(cause).__name__}: {cause}"
            + (f" ({place})" if place else ""),
            callable_name or module,
        )
        self.module = module


def names_shown(names: tuple[str, ...]) -> str:
    """Return a list of names as messages have it, the first ones if there are many."""
    more = len(names) - _NAMES_SHOWN
    return (", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")) or "none"
