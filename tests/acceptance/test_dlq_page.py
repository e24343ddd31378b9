"""docs/dlq.md tells the truth: its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from annotated_types import Ge, Le

from tasker.config.dlq import DlqSettings
from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.domain.staleness import WARNING_PERCENTAGE, ActionTaken, StalenessLimits, reaction_to_staleness
from tasker.domain.templates.document import Lifecycle, StalenessAction
from tasker.orchestration.loops import give_up, staleness, unserved
from tasker.persistence.operations.dlq import add_dlq_entry_by_hand
from tasker.persistence.reading.dlq import DlqReader
from tests.support.engine import Engine
from tests.support.stuck import stuck_task

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dlq.md").read_text(encoding="utf-8")
FUNCTIONS = "\n".join(
    (ROOT / "migrations" / "functions" / f"{name}.sql").read_text(encoding="utf-8")
    for name in ("dlq", "give_up")
)


def tables(heading: str) -> list[list[list[str]]]:
    """Return the cells of the tables below a heading, without their first rows."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section is not None, f"there is no heading {heading!r}"
    found = re.findall(r"(?:^\|.*\n)+", section[1], re.M)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]
        for table in found
    ]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_reason_has_its_weight() -> None:
    (rows,) = tables("Why there is an entry")
    assert {words(reason)[0]: int(weight) for reason, weight, *_ in rows} == {
        reason.value: reason.base_score for reason in DlqReason
    }


async def test_a_snapshot_has_the_keys_of_the_page(engine: Engine) -> None:
    task = await stuck_task(engine)
    await add_dlq_entry_by_hand(engine.database, task, {})
    entry = await DlqReader(engine.database).newest_of(task)
    assert entry is not None
    (rows,) = tables("What an entry tells")
    assert sorted(entry.task_snapshot) == sorted(key for keys, _ in rows for key in words(keys))


def test_methods_and_ends_of_an_entry_are_all_told() -> None:
    section = PAGE.partition("## What an entry tells")[2].partition("\n## ")[0]
    methods = set(re.findall(r'"detection_method": "(\w+)"', FUNCTIONS))
    assert len(methods) == 4
    assert methods | {status.value for status in ResolutionStatus} <= set(words(section))


def test_the_limits_are_those_of_the_code() -> None:
    limits = StalenessLimits()
    rows, actions = tables("Stale tasks")
    assert [(words(key)[0], default) for _, key, default in rows] == [
        ("max_waiting_for_dependencies_minutes", f"{limits.waiting_for_dependencies} minutes"),
        ("max_waiting_for_retry_minutes", f"{limits.waiting_for_retry} minutes"),
        ("max_steps_in_process_minutes", f"{limits.steps_in_process} minutes"),
        ("max_duration_minutes", f"{limits.task_max_lifetime // 60} hours"),
    ]
    assert {words(key)[0] for _, key, _ in rows} < Lifecycle.model_fields.keys()
    assert f"within the last {limits.checkpoint_stall} minutes" in PAGE
    assert f"below {WARNING_PERCENTAGE} they are `healthy`" in PAGE
    shown = {words(action)[0]: (entry == "yes", error == "yes") for action, entry, error in actions}
    assert shown.keys() == {action.value for action in StalenessAction}
    for action, (entry, error) in shown.items():
        reaction = reaction_to_staleness(
            Lifecycle(staleness_action=StalenessAction(action)),
            auto_move_to_dlq=True,
            auto_transition_to_error=True,
        )
        assert (reaction.adds_entry, reaction.fails) == (entry, error)


def test_the_settings_are_those_of_the_code() -> None:
    (rows,) = tables("Settings")
    told = {words(name)[0]: (value, default) for name, value, default, _ in rows}
    fields = {str(field.validation_alias): field for field in DlqSettings.model_fields.values()}
    assert told.keys() == fields.keys()
    for name, field in fields.items():
        value, default = told[name]
        assert default == (str(field.default).lower())
        limits: Any = [limit.ge if isinstance(limit, Ge) else limit.le for limit in field.metadata
                       if isinstance(limit, Ge | Le)]  # fmt: skip
        assert value == ("{} to {}".format(*limits) if limits else "true, false")
    assert f"After {DlqSettings.model_fields['dlq_give_up_days'].default} days" in PAGE


def test_the_events_are_those_of_the_code() -> None:
    events, actions = tables("In the log")
    source = "".join(Path(str(module.__file__)).read_text() for module in (staleness, give_up, unserved))
    assert {words(event)[0] for event, *_ in events} == set(re.findall(r'log\.\w+\(\s*"(\w+)"', source))
    assert {words(action)[0] for action, _ in actions} == {action.value for action in ActionTaken}


def test_links_of_the_page_lead_somewhere() -> None:
    def anchors(text: str) -> set[str]:
        return {
            re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
            for line in re.findall(r"^#+ (.*)$", text, re.M)
        }

    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text(encoding="utf-8") if file else PAGE
        assert not anchor or anchor in anchors(text)
