"""Whether an exception is worth another attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tasker.domain.results import ErrorType
from tasker.worker.handlers.errors import HandlerError, PermanentError, RetryableError


@dataclass(frozen=True, slots=True)
class Classification:
    """What an exception means for the step."""

    retryable: bool
    error_type: str


class ErrorClassifier:
    """Decides by the exception alone, the same way for functions and classes.

    In order: (1) the exception's own `retryable`; (2) the kinds in `permanent`, bugs and wrong data, which a
    repetition only repeats; (3) the kinds in `retryable`; (4) everything unknown is retryable. The order
    matters for kinds in both lists: a missing file is an `OSError` and stays missing. Of an exception group
    the first permanent member decides, else its first member.
    """

    permanent: ClassVar[tuple[type[BaseException], ...]] = (
        PermanentError,
        ValueError,  # pydantic.ValidationError is one
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        AssertionError,
        SyntaxError,
        NameError,
        ImportError,
        NotImplementedError,
        FileNotFoundError,
        PermissionError,
    )
    retryable: ClassVar[tuple[type[BaseException], ...]] = (
        RetryableError,
        ConnectionError,
        TimeoutError,
        BlockingIOError,
        InterruptedError,
        OSError,
    )

    @classmethod
    def classify(cls, exc: BaseException) -> Classification:
        """Return whether to retry after `exc`, and the `error_type` of the result."""
        if isinstance(exc, BaseExceptionGroup):
            members = [cls.classify(member) for member in _leaves(exc)]
            return next((member for member in members if not member.retryable), members[0])
        own = getattr(exc, "retryable", None)
        if isinstance(own, bool):
            return Classification(own, _declared_type(exc, own))
        if isinstance(exc, cls.permanent):
            return Classification(False, ErrorType.PERMANENT_ERROR)
        if isinstance(exc, cls.retryable):
            return Classification(True, ErrorType.RETRYABLE_ERROR)
        return Classification(True, ErrorType.HANDLER_ERROR)

    @classmethod
    def is_retryable(cls, exc: BaseException) -> bool:
        """Return whether another attempt may succeed."""
        return cls.classify(exc).retryable

    @classmethod
    def is_permanent(cls, exc: BaseException) -> bool:
        """Return whether another attempt cannot succeed."""
        return not cls.classify(exc).retryable


def _declared_type(exc: BaseException, retryable: bool) -> str:
    """Return the type a handler error names, unless its `retryable` argument turned a generic one around."""
    generic = str(ErrorType.RETRYABLE_ERROR if retryable else ErrorType.PERMANENT_ERROR)
    if not isinstance(exc, HandlerError):
        return generic
    if exc.error_type in (ErrorType.RETRYABLE_ERROR, ErrorType.PERMANENT_ERROR):
        return generic
    return exc.error_type


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _leaves(member)
        else:
            yield member
