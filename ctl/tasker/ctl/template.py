"""`tasker template`: what is registered, and what could be."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from tasker.ctl import template_actions, template_views
from tasker.ctl.arguments import TemplateName, template_name
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.output import Output
from tasker.ctl.remote import AsJson, Service
from tasker.ctl.template_files import Strict, TemplatePaths, documents, show_report
from tasker.domain.templates.findings import Severity
from tasker.domain.templates.validation import validate as check

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
    as_json: AsJson = False,
) -> None:
    """Check template files, without a service.

    Shows everything there is to say about them, with file and line. The exit code is 1 if a template has errors;
    warnings do not count. With --json each line is the report on one template.
    """
    output = Output(as_json=as_json)
    severities: Counter[Severity] = Counter()
    templates = 0
    for document in documents(paths):
        report = check(document, strict=strict)
        templates += 1
        severities.update(finding.severity for finding in report.findings)
        show_report(document, report, output)
    if not as_json:
        output.say(_summary(templates, severities))
    raise typer.Exit(ExitCode.FAILURE if severities[Severity.ERROR] else ExitCode.CLEAN)


def _summary(templates: int, severities: Counter[Severity]) -> str:
    counts = [
        f"{severities[one]} {one}{'' if severities[one] == 1 else 's'}" for one in Severity if severities[one]
    ]
    noun = "template" if templates == 1 else "templates"
    return f"{templates} {noun}: {', '.join(counts) or 'nothing to remark'}"


app.registered_commands += template_actions.app.registered_commands
