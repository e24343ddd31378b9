"""How the stand-ins of the refund workflows fail: an id with a marker in it meets the trouble that the marker names."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasker.worker import PermanentError, RetryableError


@dataclass(frozen=True)
class Trouble:
    """What can go wrong in another team's system.

    Attributes:
        error_code: What that system calls it.
        message: What a person should know.
        passes: Whether it may be gone at the next attempt.
    """

    error_code: str
    message: str
    passes: bool = False


def meet(troubles: Mapping[str, Trouble], text: str) -> None:
    """Fail the step if the text holds one of the markers."""
    for marker, trouble in troubles.items():
        if marker in text:
            error = RetryableError if trouble.passes else PermanentError
            raise error(f"{text}: {trouble.message}", error_code=trouble.error_code)
