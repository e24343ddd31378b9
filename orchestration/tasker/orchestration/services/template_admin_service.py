"""tasker.v1.TemplateAdminService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasker.domain.templates.findings import Finding, Severity
from tasker.orchestration.engine.versions import TemplateVersions
from tasker.orchestration.services import render
from tasker.orchestration.services.paging import PageTokens
from tasker.orchestration.services.sizing import fitting
from tasker.persistence.reading.templates import TemplateVersion
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import template_admin_pb2, template_admin_pb2_grpc

#: A document of a quarter of a MiB may have ten thousands of problems, each of which tells of a long name.
MAX_PROBLEMS: Final = 500
_LONGEST_TEXT: Final = 1000
_BY_WEIGHT: Final = list(Severity)


class TemplateAdminService(template_admin_pb2_grpc.TemplateAdminServiceServicer):
    """Registers and checks templates, and says which versions may be used."""

    def __init__(self, versions: TemplateVersions, tokens: PageTokens) -> None:
        self._versions = versions
        self._tokens = tokens

    async def RegisterTemplate(
        self, request: template_admin_pb2.RegisterTemplateRequest, context: ServicerContext
    ) -> template_admin_pb2.RegisterTemplateResponse:
        """Register the template in a text."""
        registered = await self._versions.register(request.document, strict=request.strict)
        return template_admin_pb2.RegisterTemplateResponse(
            version=_version(registered.version),
            changed=registered.changed,
            warnings=_problems(registered.warnings),
        )

    async def ValidateTemplate(
        self, request: template_admin_pb2.ValidateTemplateRequest, context: ServicerContext
    ) -> template_admin_pb2.ValidateTemplateResponse:
        """Return everything there is to say about the template in a text; nothing is written."""
        report = await self._versions.check(request.document, strict=request.strict)
        problems = _problems(report.findings)
        return template_admin_pb2.ValidateTemplateResponse(
            valid=report.valid,
            problems=problems,
            omitted_problems=len(report.findings) - len(problems),
        )

    async def ListVersions(
        self, request: template_admin_pb2.ListVersionsRequest, context: ServicerContext
    ) -> template_admin_pb2.ListVersionsResponse:
        """Return a page of the versions of a template, highest first."""
        listing = self._tokens.listing(b"versions", request.namespace.encode(), request.name.encode())
        page = listing.page(request.pagination)
        found = await self._versions.page(
            request.namespace,
            request.name,
            below=page.after[0] if page.after else None,
            skip=page.skip,
            limit=page.limit + 1,
        )
        versions = found.versions[: page.limit]
        return template_admin_pb2.ListVersionsResponse(
            versions=[_version(version) for version in versions],
            pagination=listing.reply(
                page,
                found.total,
                versions,
                more=len(found.versions) > page.limit,
                key=lambda version: [version.version],
            ),
        )

    async def Deactivate(
        self, request: template_admin_pb2.DeactivateRequest, context: ServicerContext
    ) -> template_admin_pb2.DeactivateResponse:
        """Take a version out of use."""
        chosen = await self._versions.deactivate(
            request.namespace,
            request.name,
            request.version,
            requested_by=request.requested_by or None,
            reason=request.reason or None,
        )
        return template_admin_pb2.DeactivateResponse(
            version=_version(chosen.version), default_version=chosen.default_version or ""
        )

    async def Activate(
        self, request: template_admin_pb2.ActivateRequest, context: ServicerContext
    ) -> template_admin_pb2.ActivateResponse:
        """Put a version into use again."""
        chosen = await self._versions.activate(
            request.namespace,
            request.name,
            request.version,
            requested_by=request.requested_by or None,
            reason=request.reason or None,
        )
        return template_admin_pb2.ActivateResponse(
            version=_version(chosen.version), default_version=chosen.default_version or ""
        )


def _version(version: TemplateVersion) -> template_admin_pb2.TemplateVersion:
    return template_admin_pb2.TemplateVersion(
        namespace=version.namespace,
        name=version.name,
        version=version.version,
        active=version.active,
        is_default=version.is_default,
        digest=version.digest.hex(),
        registered_at=render.timestamp(version.registered_at),
        open_tasks=version.open_tasks,
        deactivated_at=render.optional_timestamp(version.deactivated_at),
        deactivated_by=version.deactivated_by,
        deactivation_reason=version.deactivation_reason,
    )


def _problems(findings: Sequence[Finding]) -> list[template_admin_pb2.TemplateProblem]:
    """Return those that matter most, as many as there is room for."""
    by_weight = sorted(findings, key=lambda finding: _BY_WEIGHT.index(finding.severity))
    return fitting(map(_problem, by_weight[:MAX_PROBLEMS]))


def _problem(finding: Finding) -> template_admin_pb2.TemplateProblem:
    return template_admin_pb2.TemplateProblem(
        path=_short(finding.path),
        problem=_short(finding.message),
        code=finding.code.value,
        severity=finding.severity.value,
        line=finding.line,
        step=_short(finding.step) if finding.step is not None else None,
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."
