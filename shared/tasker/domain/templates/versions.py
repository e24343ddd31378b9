"""Versions of templates that are registered and not in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tasker.domain.errors import FailedPreconditionError


class TemplateDeactivatedError(FailedPreconditionError):
    """A task is to be created of a version that an operator has taken out of use."""

    reason: ClassVar[str] = "TEMPLATE_DEACTIVATED"

    def __init__(self, namespace: str, name: str, version: str, active_versions: Sequence[str] = ()) -> None:
        self.namespace = namespace
        self.name = name
        self.version = version
        self.active_versions = tuple(active_versions)
        template = f"template {namespace}/{name}"
        what = (
            f"version {version} of {template} is deactivated"
            if version
            else f"{template} has no active version"
        )
        remedy = (
            f"use an active one ({', '.join(active_versions)}), or activate it"
            if active_versions
            else "activate a version of it, or register a new one"
        )
        super().__init__(f"{what}; {remedy}")

    @property
    def metadata(self) -> Mapping[str, str]:
        """The triple asked for and the versions that are active."""
        facts = {"namespace": self.namespace, "name": self.name, "version": self.version}
        return facts | {"active_versions": ",".join(self.active_versions)}
