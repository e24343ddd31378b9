"""Errors about queues: the namespaces they belong to, and messages that were taken out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tasker.domain.errors import FailedPreconditionError, NotFoundError


class NamespaceNotFoundError(NotFoundError):
    """No namespace has this name."""

    reason: ClassVar[str] = "NAMESPACE_NOT_FOUND"

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        super().__init__(
            f"namespace '{namespace}' does not exist; check the spelling: registering a template makes its namespace"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The name asked for."""
        return {"namespace": self.namespace}


class PoisonNotFoundError(NotFoundError):
    """No poison message is recorded under this id."""

    reason: ClassVar[str] = "POISON_NOT_FOUND"

    def __init__(self, poison_id: int) -> None:
        self.poison_id = poison_id
        super().__init__(
            f"poison message {poison_id} does not exist; it may have been removed with its task: list what there is"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The id asked for."""
        return {"poison_id": str(self.poison_id)}


class PoisonWithoutStepError(FailedPreconditionError):
    """A poison message that names no step cannot be given another try."""

    reason: ClassVar[str] = "POISON_WITHOUT_STEP"

    def __init__(self, poison_id: int) -> None:
        self.poison_id = poison_id
        super().__init__(
            f"poison message {poison_id} names no task and step, so there is nothing to run again; it was written by "
            "somebody else than Tasker, or spoilt"
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The id asked for."""
        return {"poison_id": str(self.poison_id)}
