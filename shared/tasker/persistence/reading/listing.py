"""Listing tasks: filters, sorts and pages that stay fast with many of them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tasker.domain.states import TaskState
from tasker.persistence.database import Database
from tasker.persistence.queries import statement
from tasker.persistence.reading.pages import EXACT_TOTAL
from tasker.persistence.reading.tasks import TaskRecord, task_record, tasks_statement

_COUNT: Final = statement("listing_count").replace("{exact}", str(EXACT_TOTAL))
_FEW: Final = statement("listing_keys_few")
_MANY: Final = statement("listing_keys_many")
_BY_TEMPLATE: Final = statement("listing_keys_by_template")
_NAMED_TEMPLATES: Final = statement("listing_templates")


class TaskSort(StrEnum):
    """What tasks may be sorted by; ties are broken by task_uuid, in the same direction."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    COMPLETED_AT = "completed_at"
    PRIORITY = "priority"
    STATE = "state"
    NAME = "name"
    NAMESPACE = "namespace"

    def value_of(self, task: TaskRecord) -> Any:
        """Return what a task is sorted by."""
        return getattr(task, self.value)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open span: `start` <= t < `end`; None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks: all conditions must hold, and None or an empty collection is no condition.

    Attributes:
        namespace, name: Of the template.
        states: Any of these.
        created_at, updated_at: Within these spans.
        initiator, source_system, correlation_id, parent_correlation_id: Equal to these.
        tags: All of these labels.
        tags_any: At least one of these labels.
    """

    namespace: str | None = None
    name: str | None = None
    states: Collection[TaskState] = ()
    created_at: TimeRange = TimeRange()
    updated_at: TimeRange = TimeRange()
    initiator: str | None = None
    source_system: str | None = None
    correlation_id: UUID | None = None
    parent_correlation_id: UUID | None = None
    tags: Collection[str] = ()
    tags_any: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """How tasks are sorted: newest first unless said otherwise. Those without a `completed_at` come last."""

    by: TaskSort = TaskSort.CREATED_AT
    descending: bool = True


@dataclass(frozen=True, slots=True)
class LastTask:
    """The last task of a page: the next page begins behind it.

    Attributes:
        value: What it was sorted by.
        task_uuid: Its uuid.
    """

    value: Any
    task_uuid: UUID


#: Conditions by parameter; one whose parameter is None does not apply. Some repeat the predicate of a partial index
#: where the planner does not see by itself that the index has all it asks for (migrations/0007_listing.sql).
_CONDITIONS: Final[Mapping[str, str]] = {
    "templates": "t.named_task_uuid = ANY (%(templates)s::uuid[])",
    "states": "t.state = ANY (%(states)s::text[])",
    "created_start": "t.created_at >= %(created_start)s::timestamptz",
    "created_end": "t.created_at < %(created_end)s::timestamptz",
    "updated_start": "t.updated_at >= %(updated_start)s::timestamptz",
    "updated_end": "t.updated_at < %(updated_end)s::timestamptz",
    "initiator": "t.initiator = %(initiator)s::text",
    "source_system": "t.source_system = %(source_system)s::text",
    "correlation_id": "t.correlation_id = %(correlation_id)s::uuid",
    "parent_correlation_id": "t.parent_correlation_id = %(parent_correlation_id)s::uuid",
    "tags": "t.tags @> %(tags)s::text[] AND t.tags <> '{}'",
    "tags_any": "t.tags && %(tags_any)s::text[] AND t.tags <> '{}'",
}
_OPEN: Final = "t.terminal_at IS NULL"
_UNSUCCESSFUL: Final = "(t.terminal_at IS NOT NULL AND t.completed_at IS NULL)"

#: What is sorted by and its type. Texts sort alike whatever the collation of the database.
_SORTED_BY: Final[Mapping[TaskSort, tuple[str, str]]] = {
    TaskSort.CREATED_AT: ("t.created_at", "timestamptz"),
    TaskSort.UPDATED_AT: ("t.updated_at", "timestamptz"),
    TaskSort.COMPLETED_AT: ("t.completed_at", "timestamptz"),
    TaskSort.PRIORITY: ("t.priority::integer", "integer"),
    TaskSort.STATE: ('t.state::text COLLATE "C"', "text"),
    TaskSort.NAME: ('n.name COLLATE "C"', "text"),
    TaskSort.NAMESPACE: ('n.namespace COLLATE "C"', "text"),
}
_OF_TEMPLATE: Final = frozenset({TaskSort.NAME, TaskSort.NAMESPACE})
_TEMPLATES: Final = (
    "JOIN (SELECT n.named_task_uuid, n.name, ns.name AS namespace FROM tasker.named_tasks n "
    "JOIN tasker.task_namespaces ns USING (namespace_id)) n ON n.named_task_uuid = t.named_task_uuid"
)
#: The contexts of one page together, as JSON text; a reply holds each twice, and clients take 4 MiB unless told
#: otherwise.
PAGE_CONTEXT_BYTES: Final = 1024 * 1024

#: What a page holds of each context: nothing; or all of it as long as the page stays small, then null.
_NO_CONTEXT: Final = "'{}'::jsonb"
_CONTEXT: Final = """
    CASE WHEN row_number() OVER page = 1
              OR sum(octet_length(t.context::text)) OVER page <= %(context_bytes)s THEN t.context END"""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks in order, and how many there are, as of the same moment.

    Attributes:
        total: How many match, exact up to `EXACT_TOTAL`.
        tasks: Those of the page.
        more: Whether tasks follow behind it.
    """

    total: int
    tasks: list[TaskRecord]
    more: bool


class TaskListing:
    """Finds tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        wanted: TaskFilter,
        order: TaskOrder,
        *,
        limit: int,
        skip: int = 0,
        after: LastTask | None = None,
        with_context: bool = True,
    ) -> TaskPage:
        """Return a page of the tasks that match.

        Args:
            wanted: Which tasks.
            order: How they are sorted.
            limit: The longest page.
            skip: How many to leave out at its beginning.
            after: The last task of the page before.
            with_context: Whether to read the contexts; without, they are empty. With them a page ends early rather
                than grow beyond `PAGE_CONTEXT_BYTES`; its first task comes always.
        """
        params = _parameters(wanted)
        # Not prepared: each combination of filters is planned for its values, and there are too many to keep.
        async with self._database.snapshot(prepare=False) as snapshot:
            if wanted.namespace is not None or wanted.name is not None:
                named = {"namespace": wanted.namespace, "name": wanted.name}
                params["templates"] = await snapshot.fetch_values(_NAMED_TEMPLATES, named)
                if not params["templates"]:
                    return TaskPage(0, [], more=False)
            conditions = _conditions(wanted, params)
            total = await snapshot.fetch_value(
                _COUNT.replace("{conditions}", _all(conditions.values())), params
            )
            keys = _keys(conditions, order, continued=after is not None, few=total <= EXACT_TOTAL)
            params |= {"at": None, "limit": limit + 1, "skip": skip, "context_bytes": PAGE_CONTEXT_BYTES}
            if after is not None:
                params |= {"after_value": after.value, "after_uuid": after.task_uuid}
            found = await snapshot.fetch_all(
                task_record, _page(keys, order, with_context=with_context), params
            )
        tasks = list(itertools.takewhile(lambda task: task.context is not None, found[:limit]))
        return TaskPage(total, tasks, more=len(found) > len(tasks))


def _parameters(wanted: TaskFilter) -> dict[str, Any]:
    return {
        "states": [state.value for state in wanted.states] or None,
        "created_start": wanted.created_at.start,
        "created_end": wanted.created_at.end,
        "updated_start": wanted.updated_at.start,
        "updated_end": wanted.updated_at.end,
        "initiator": wanted.initiator,
        "source_system": wanted.source_system,
        "correlation_id": wanted.correlation_id,
        "parent_correlation_id": wanted.parent_correlation_id,
        "tags": list(wanted.tags) or None,
        "tags_any": list(wanted.tags_any) or None,
    }


def _conditions(wanted: TaskFilter, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions that apply, by parameter."""
    found = {name: text for name, text in _CONDITIONS.items() if params.get(name) is not None}
    if wanted.states and TaskState.COMPLETE not in wanted.states:
        kinds = {_UNSUCCESSFUL if state.is_terminal else _OPEN for state in wanted.states}
        found["states"] += f" AND ({' OR '.join(sorted(kinds))})"
    return found


def _keys(conditions: Mapping[str, str], order: TaskOrder, *, continued: bool, few: bool) -> str:
    """Return a query for the task_uuids of a page."""
    shape = _MANY
    if few and conditions:
        shape = _FEW
    elif "templates" in conditions and order.by is TaskSort.CREATED_AT:
        shape = _BY_TEMPLATE
        conditions = {name: text for name, text in conditions.items() if name != "templates"}
    return (
        shape.replace("{templates}", _TEMPLATES if order.by in _OF_TEMPLATE else "")
        .replace("{conditions}", _all(conditions.values()))
        .replace("{behind}", _behind(order) if continued else "true")
        .replace("{order}", _ordered(order))
    )


def _page(keys: str, order: TaskOrder, *, with_context: bool) -> str:
    """Return the statement that reads the tasks of some keys."""
    window = f"WINDOW page AS (ORDER BY {_ordered(order)})\n" if with_context else ""
    tasks = tasks_statement(keys, context=_CONTEXT if with_context else _NO_CONTEXT)
    return f"{tasks}{window}ORDER BY {_ordered(order)}"


def _all(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions) or "true"


def _ordered(order: TaskOrder) -> str:
    direction = "DESC" if order.descending else "ASC"
    return f"{_sorted_by(order)} {direction}, t.task_uuid {direction}"


def _behind(order: TaskOrder) -> str:
    """Return the condition for the tasks behind the last one of the page before."""
    last = f"%(after_value)s::{_SORTED_BY[order.by][1]}"
    return (
        f"({_sorted_by(order)}, t.task_uuid) {'<' if order.descending else '>'} "
        f"({_last_when_null(last, order)}, %(after_uuid)s::uuid)"
    )


def _sorted_by(order: TaskOrder) -> str:
    return _last_when_null(_SORTED_BY[order.by][0], order)


def _last_when_null(value: str, order: TaskOrder) -> str:
    """Place tasks that never completed last, in either direction."""
    if order.by is not TaskSort.COMPLETED_AT:
        return value
    return f"coalesce({value}, '{'-' if order.descending else ''}infinity')"
