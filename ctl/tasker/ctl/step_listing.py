"""The listing of a task's steps, that `tasker task steps` and `tasker step list` show."""

from __future__ import annotations

from tasker.client import Step, TaskerClient
from tasker.ctl import task_views
from tasker.ctl.options import with_options
from tasker.ctl.prefixes import TaskPrefix, find_task
from tasker.ctl.remote import Service


@with_options
def list_steps(task: TaskPrefix, *, service: Service) -> None:
    """List the steps of a task.

    With their results, oldest first; with --json one a line.
    """

    async def ask(client: TaskerClient) -> tuple[Step, ...]:
        return await client.steps(await find_task(client, task))

    service.output.show_all(service.ask(ask), task_views.step_table)
