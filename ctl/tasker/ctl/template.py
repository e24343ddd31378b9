"""`tasker template`: what is registered, and what could be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from tasker.ctl import template_actions, template_views
from tasker.ctl.arguments import TemplateName, template_name
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.output import Output
from tasker.ctl.remote import AsJson, Service
from tasker.ctl.template_files import Strict, TemplatePaths, documents, show_report
from tasker.domain.templates.findings import Code, Findings, Report, Severity
from tasker.domain.templates.loading import Document
from tasker.domain.templates.validation import validate as check

if TYPE_CHECKING:
    from tasker.worker import HandlerRegistry

app = typer.Typer(no_args_is_help=True)


@app.callback()
def template() -> None:
    """List, show, check, register and choose templates."""


@app.command("list")
@with_options
def list_templates(
    namespace: Annotated[str | None, typer.Option(metavar="TEXT", help="Only this namespace.")] = None,
    *,
    service: Service,
) -> None:
    """List the registered templates.

    Every version of them; with --json one a line.
    """
    listing = service.ask(lambda client: client.templates(namespace))
    service.output.show_all(
        listing.templates, template_views.template_table, none="No template is registered."
    )


@app.command()
@with_options
def show(
    template: Annotated[
        TemplateName,
        typer.Argument(
            parser=template_name,
            metavar="NAMESPACE/NAME[/VERSION]",
            help="The template; its highest version by default.",
            show_default=False,
        ),
    ],
    *,
    service: Service,
) -> None:
    """Show a template with its steps and schemas."""
    found = service.ask(lambda client: client.template(template.namespace, template.name, template.version))
    service.output.show(found, template_views.template_details)


@app.command()
def validate(
    paths: TemplatePaths,
    strict: Strict = False,
    handlers: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE",
            help="Check the steps against the handlers of this module, file or folder.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show remarks, too, such as steps without a result_schema.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check template files, without a service.

    Shows what is wrong with them, with file and line. The exit code is 1 if a template has errors; warnings do not
    count. With --json each line is the report on one template, remarks included.

    With --handlers it is an error, too, if a step has no handler there, or one that takes the result of a step that is
    not above it, or a value that the input_schema does not have.
    """
    output = Output(as_json=as_json)
    registry = _handlers_at(handlers) if handlers else None
    severities: Counter[Severity] = Counter()
    templates = 0
    for document in documents(paths):
        report = check(document, strict=strict)
        if registry is not None:
            report = _with_handlers(document, report, registry)
        if not (everything or as_json):
            report = report.without(Severity.INFO)
        templates += 1
        severities.update(finding.severity for finding in report.findings)
        show_report(document, report, output)
    if not as_json:
        output.say(_summary(templates, severities))
    raise typer.Exit(ExitCode.FAILURE if severities[Severity.ERROR] else ExitCode.CLEAN)


def _handlers_at(where: str) -> HandlerRegistry:
    from tasker.ctl.worker import handlers_at  # a service in all its parts, for whoever asks for handlers

    return handlers_at(where)


def _with_handlers(document: Document, report: Report, registry: HandlerRegistry) -> Report:
    """Add to the report on a valid template what the handlers have to say."""
    from tasker.worker.handlers.checking import check_handlers

    if report.template is None:
        return report
    found = check_handlers(report.template, registry)
    names = [step.name for step in report.template.steps]
    findings = Findings(source=document.source, lines=document.lines, step_names=names)
    for name, why in found.missing.items():
        place = ("steps", names.index(name), "handler")
        findings.add(Code.HANDLER_MISSING, place, f"step {name!r}: {why}")
    for name, reasons in found.unfit.items():
        for why in reasons:
            findings.add(Code.HANDLER_UNFIT, ("steps", names.index(name)), f"step {name!r}: {why}")
    return report.joined(findings)


def _summary(templates: int, severities: Counter[Severity]) -> str:
    counts = [
        f"{severities[one]} {one}{'' if severities[one] == 1 else 's'}" for one in Severity if severities[one]
    ]
    noun = "template" if templates == 1 else "templates"
    return f"{templates} {noun}: {', '.join(counts) or 'nothing to remark'}"


app.registered_commands += template_actions.app.registered_commands
