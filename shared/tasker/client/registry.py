"""Registering and checking templates, and choosing which versions may be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from tasker.client.connection import Connection
from tasker.client.fields import instant, optional, optional_instant
from tasker.client.paging import pages
from tasker.client.registry_records import (
    ChosenVersion,
    RegisteredTemplate,
    TemplateCheck,
    TemplateProblem,
    TemplateVersion,
)
from tasker.v1 import common_pb2, template_admin_pb2, template_admin_pb2_grpc


class Registry:
    """Changes the set of registered templates. `templates` and `template` of the client read it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def register(
        self, document: str | Mapping[str, Any], *, strict: bool = False, timeout: float | None = None
    ) -> RegisteredTemplate:
        """Register a version of a template, as a worker does with those in its files.

        Args:
            document: YAML or JSON text, or the same as a mapping.
            strict: Whether an unknown key is an error instead of a warning.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            FailedPreconditionError: The version exists with another content and has unfinished tasks.
            InvalidArgumentError: The document has errors; see `violations`.
        """
        request = template_admin_pb2.RegisterTemplateRequest(document=_text(document), strict=strict)
        answer = await self._connection.call(self._stub.RegisterTemplate, request, timeout=timeout)
        return RegisteredTemplate(
            version=_version(answer.version), changed=answer.changed, warnings=_problems(answer.warnings)
        )

    async def validate(
        self, document: str | Mapping[str, Any], *, strict: bool = False, timeout: float | None = None
    ) -> TemplateCheck:
        """Return everything there is to say about a template; nothing is written.

        Args:
            document: YAML or JSON text, or the same as a mapping.
            strict: Whether an unknown key is an error instead of a warning.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            InvalidArgumentError: It is too long, or not one document.
        """
        request = template_admin_pb2.ValidateTemplateRequest(document=_text(document), strict=strict)
        answer = await self._connection.call(self._stub.ValidateTemplate, request, timeout=timeout)
        return TemplateCheck(
            valid=answer.valid,
            problems=_problems(answer.problems),
            omitted_problems=answer.omitted_problems,
        )

    async def versions(
        self, namespace: str, name: str, *, timeout: float | None = None
    ) -> tuple[TemplateVersion, ...]:
        """Return all versions of a template, highest first, in use or not.

        Args:
            namespace: Its namespace.
            name: Its name.
            timeout: Seconds each page may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such template.
        """

        async def fetch(page: common_pb2.PaginationRequest) -> template_admin_pb2.ListVersionsResponse:
            request = template_admin_pb2.ListVersionsRequest(namespace=namespace, name=name, pagination=page)
            return await self._connection.call(self._stub.ListVersions, request, timeout=timeout)

        return tuple(
            [_version(version) async for answer in pages(fetch, size=1000) for version in answer.versions]
        )

    async def deactivate(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        requested_by: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> ChosenVersion:
        """Take a version out of use: it is no default, and no task can be created of it. Those that run go on.

        Args:
            namespace: Namespace of the template.
            name: Name of the template.
            version: The version.
            requested_by: Who asks.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such version.
        """
        request = template_admin_pb2.DeactivateRequest(
            namespace=namespace, name=name, version=version, requested_by=requested_by, reason=reason
        )
        return _chosen(await self._connection.call(self._stub.Deactivate, request, timeout=timeout))

    async def activate(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        requested_by: str | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> ChosenVersion:
        """Put a version into use again.

        Args:
            namespace: Namespace of the template.
            name: Name of the template.
            version: The version.
            requested_by: Who asks.
            reason: Why.
            timeout: Seconds the call may take; the client's timeout by default.

        Raises:
            NotFoundError: There is no such version.
        """
        request = template_admin_pb2.ActivateRequest(
            namespace=namespace, name=name, version=version, requested_by=requested_by, reason=reason
        )
        return _chosen(await self._connection.call(self._stub.Activate, request, timeout=timeout))

    @cached_property
    def _stub(self) -> template_admin_pb2_grpc.TemplateAdminServiceAsyncStub:
        return template_admin_pb2_grpc.TemplateAdminServiceStub(self._connection.channel)


def _text(document: str | Mapping[str, Any]) -> str:
    return document if isinstance(document, str) else json.dumps(document)


def _chosen(
    answer: template_admin_pb2.DeactivateResponse | template_admin_pb2.ActivateResponse,
) -> ChosenVersion:
    return ChosenVersion(version=_version(answer.version), default_version=answer.default_version or None)


def _version(message: template_admin_pb2.TemplateVersion) -> TemplateVersion:
    return TemplateVersion(
        namespace=message.namespace,
        name=message.name,
        version=message.version,
        active=message.active,
        is_default=message.is_default,
        digest=message.digest,
        registered_at=instant(message.registered_at),
        open_tasks=message.open_tasks,
        deactivated_at=optional_instant(message, "deactivated_at"),
        deactivated_by=optional(message, "deactivated_by"),
        deactivation_reason=optional(message, "deactivation_reason"),
    )


def _problems(messages: Iterable[template_admin_pb2.TemplateProblem]) -> tuple[TemplateProblem, ...]:
    return tuple(
        TemplateProblem(
            code=message.code,
            severity=message.severity,
            path=message.path,
            problem=message.problem,
            line=optional(message, "line"),
            step=optional(message, "step"),
        )
        for message in messages
    )
