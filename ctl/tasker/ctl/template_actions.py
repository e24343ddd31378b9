"""`tasker template`: register templates, and choose which of their versions may be used."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tasker.client import ChosenVersion, TaskerClient
from tasker.ctl import template_views
from tasker.ctl.acting import Actor
from tasker.ctl.arguments import TemplateName, template_name
from tasker.ctl.event_loop import run
from tasker.ctl.failures import ExitCode
from tasker.ctl.options import with_options
from tasker.ctl.remote import Service
from tasker.ctl.template_files import Strict, TemplatePaths, documents, show_report
from tasker.domain.templates.validation import validate as check

app = typer.Typer()

AllVersions = Annotated[
    TemplateName,
    typer.Argument(parser=template_name, metavar="NAMESPACE/NAME", help="The template.", show_default=False),
]
OneVersion = Annotated[
    TemplateName,
    typer.Argument(
        parser=template_name,
        metavar="NAMESPACE/NAME/VERSION",
        help="The version.",
        show_default=False,
    ),
]


@app.command()
@with_options
def versions(template: AllVersions, *, service: Service) -> None:
    """List the versions of a template, highest first, in use or not.

    OPEN counts the tasks that are not over. With --json one a line.
    """
    found = service.ask(lambda client: client.registry.versions(template.namespace, template.name))
    service.output.show_all(found, template_views.version_table)


@app.command()
@with_options
def register(paths: TemplatePaths, strict: Strict = False, *, service: Service) -> None:
    """Register templates, as a worker does with those in its files.

    If one of them has errors, none is registered: what is wrong is shown as `validate` does, and the exit code is 1.
    Repeating it is harmless.
    """
    checked = [(document, check(document, strict=strict)) for document in documents(paths)]
    if not all(report.valid for _, report in checked):
        for document, report in checked:
            show_report(document, report, service.output)
        raise typer.Exit(ExitCode.FAILURE)

    async def work() -> None:
        async with service.connected() as client:
            for document, _ in checked:
                with service.busy():
                    done = await client.registry.register(json.dumps(document.content), strict=strict)
                service.output.show(done, template_views.registered_line)

    run(work())


@app.command()
@with_options
def deactivate(template: OneVersion, *, actor: Actor, service: Service) -> None:
    """Take a version of a template out of use.

    It is no default any more, and no task can be created of it. Tasks that run go on.
    """

    async def ask(client: TaskerClient) -> ChosenVersion:
        return await client.registry.deactivate(
            template.namespace,
            template.name,
            _version(template),
            requested_by=actor.name,
            reason=actor.reason,
        )

    service.output.show(service.ask(ask), template_views.chosen_line)


@app.command()
@with_options
def activate(template: OneVersion, *, actor: Actor, service: Service) -> None:
    """Put a version of a template that was taken out of use into use again."""

    async def ask(client: TaskerClient) -> ChosenVersion:
        return await client.registry.activate(
            template.namespace,
            template.name,
            _version(template),
            requested_by=actor.name,
            reason=actor.reason,
        )

    service.output.show(service.ask(ask), template_views.chosen_line)


def _version(template: TemplateName) -> str:
    """Return the version of a template that has to have one.

    Raises:
        BadParameter: It has none.
    """
    if not template.version:
        raise typer.BadParameter(
            f"say which version, as in {template.namespace}/{template.name}/1.0.0",
            param_hint="NAMESPACE/NAME/VERSION",
        )
    return template.version
