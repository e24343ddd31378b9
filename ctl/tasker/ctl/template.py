"""`tasker template`: what is registered, and what could be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tasker.ctl import template_views
from tasker.ctl.arguments import TemplateName, template_name
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.output import Output, shown
from tasker.ctl.remote import AsJson, Service
from tasker.domain.templates.findings import Finding, Report, Severity
from tasker.domain.templates.loading import Document, load_documents
from tasker.domain.templates.validation import validate as check

app = typer.Typer(no_args_is_help=True)

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


@app.callback()
def template() -> None:
    """List, show and check templates."""


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
    paths: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            metavar="PATH...",
            help="Files, or folders of .yaml and .yml files.",
            show_default=False,
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Make an unknown key an error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check template files, without a service.

    Shows everything there is to say about them, with file and line. The exit code is 1 if a template has errors or
    none is found; warnings do not count. With --json each line is the report on one template.
    """
    output = Output(as_json=as_json)
    severities: Counter[Severity] = Counter()
    templates = 0
    for document in _documents(paths):
        report = check(document, strict=strict)
        templates += 1
        severities.update(finding.severity for finding in report.findings)
        if as_json:
            output.write(_facts(document, report))
        for finding in () if as_json else report.findings:
            output.say(_line(finding))
    if not templates:
        raise typer.BadParameter(f"{', '.join(map(str, paths))} holds no template", param_hint="PATH")
    if not as_json:
        output.say(_summary(templates, severities))
    raise typer.Exit(ExitCode.FAILURE if severities[Severity.ERROR] else ExitCode.CLEAN)


def _documents(paths: Iterable[Path]) -> Iterator[Document]:
    for path in (file for given in paths for file in _files(given)):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield Document(str(path), problem="it is no UTF-8 text")
        else:
            yield from load_documents(text, str(path))


def _files(path: Path) -> list[Path]:
    """Return the template files of a folder as a worker finds them; a file that is named is one in any case."""
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*.y*ml")
        if file.suffix in (".yaml", ".yml")
        and not any(part.startswith(".") for part in file.relative_to(path).parent.parts)
    )


def _facts(document: Document, report: Report) -> dict[str, object]:
    return {
        "source": document.source,
        "valid": report.valid,
        "template": report.template.key if report.template else None,
        "step_count": report.step_count,
        "has_cycles": report.has_cycles,
        "findings": report.findings,
    }


def _line(finding: Finding) -> Text:
    place = f"{finding.source}:{finding.line}" if finding.line else finding.source
    severity = (finding.severity, _STYLES[finding.severity])
    return Text.assemble(shown(place), ": ", severity, f" {finding.code}: ", shown(finding.message))


def _summary(templates: int, severities: Counter[Severity]) -> str:
    counts = [
        f"{severities[one]} {one}{'' if severities[one] == 1 else 's'}" for one in Severity if severities[one]
    ]
    noun = "template" if templates == 1 else "templates"
    return f"{templates} {noun}: {', '.join(counts) or 'nothing to remark'}"
