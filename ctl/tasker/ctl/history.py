"""What became of the steps of a task: the results of workers, and what people did by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from rich.table import Table

from tasker.client import Step, StepAuditRecord, StepIntervention, TaskerClient
from tasker.ctl import tables
from tasker.ctl.output import brief, shown
from tasker.ctl.reasons import intervention_text, step_failure_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention(StepIntervention):
    """What a person did to a step, with which step it was.

    Attributes:
        task_uuid: The task.
        step_uuid: The step.
        step_name: Its name.
    """

    task_uuid: UUID
    step_uuid: UUID
    step_name: str

    @classmethod
    def of(cls, step: Step, intervention: StepIntervention) -> Intervention:
        """Return what was done to this step."""
        facts = {field.name: getattr(intervention, field.name) for field in dataclasses.fields(intervention)}
        return cls(task_uuid=step.task_uuid, step_uuid=step.step_uuid, step_name=step.name, **facts)


Happening = StepAuditRecord | Intervention


async def history(client: TaskerClient, steps: Iterable[Step]) -> list[Happening]:
    """Return what became of these steps, oldest first."""
    found: list[Happening] = []
    for step in steps:
        found += [record async for record in client.step_audit(step.task_uuid, step.step_uuid)]
        acts = await client.step_interventions(step.task_uuid, step.step_uuid)
        found += [Intervention.of(step, act) for act in acts]
    return sorted(found, key=_order)


def history_table(happenings: Iterable[Happening]) -> Table:
    """Return one line for each result and each thing that was done."""
    made = tables.table("AT", "STEP", "ATTEMPT", "STATE", "MS", "RESULT", right=("ATTEMPT", "MS"))
    for each in happenings:
        if isinstance(each, Intervention):
            attempt, took, what = "", "", brief(intervention_text(each), tables.REASON, "yellow")
        else:
            attempt = str(each.attempt or "")
            took = str(each.execution_time_ms if each.execution_time_ms is not None else "")
            what = (
                brief(step_failure_text(each.failure), tables.REASON, "red")
                if each.failure is not None
                else brief(tables.json_text(each.result), tables.CELL)
            )
        made.add_row(
            tables.local(_at(each)), shown(each.step_name), attempt, tables.state(each.to_state), took, what
        )
    return made


def _at(each: Happening) -> datetime:
    return each.intervened_at if isinstance(each, Intervention) else each.recorded_at


def _order(each: Happening) -> tuple[datetime, UUID]:
    return _at(each), each.step_uuid if isinstance(each, Intervention) else each.audit_uuid
