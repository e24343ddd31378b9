"""Why a credential is not good: for the log of the service, never for the caller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from tasker.rpc.permissions import VOCABULARY, unknown_permissions
from tasker.telemetry.logs import get_logger

#: `missing`: none came. `malformed`: it is not one at all. `expired`: it was good once. `unknown_permission`: it grants
#: what there is not. `invalid`: anything else.
Cause: TypeAlias = Literal["missing", "malformed", "invalid", "expired", "unknown_permission"]

_log = get_logger(__name__)


class CredentialRefusedError(Exception):
    """A credential is not good.

    Attributes:
        cause: Its kind.
        detail: What it lacks, without any part of it.
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        self.cause = cause
        self.detail = detail
        super().__init__(detail)


class Granting:
    """What becomes of granted texts that are no permission: refused, or left out and told once in the log.

    Args:
        strict: Whether one of them spoils the credential.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._told: set[str] = set()

    def known(self, granted: Iterable[str], *, subject: str) -> frozenset[str]:
        """Return the permissions among what is granted.

        Raises:
            CredentialRefusedError: Something else is among it, and we are strict.
        """
        granted = frozenset(granted)
        unknown = unknown_permissions(granted)
        if unknown and self.strict:
            raise CredentialRefusedError(
                "unknown_permission", f"grants what is no permission: {_named(unknown)}"
            )
        if fresh := [text for text in unknown if text not in self._told][:100]:
            if len(self._told) < 1000:  # whoever issues tokens can think of any number
                self._told.update(fresh)
            _log.warning("unknown_permissions_ignored", subject=subject, permissions=_named(fresh))
        return granted & VOCABULARY


def _named(texts: list[str]) -> str:
    """Return some of many texts, cut to a length that a line bears."""
    shown = ", ".join(repr(text[:60]) for text in texts[:5])
    return shown if len(texts) <= 5 else f"{shown} and {len(texts) - 5} more"
