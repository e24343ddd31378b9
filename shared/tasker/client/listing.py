"""What ListTasks is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, cast
from uuid import UUID

from tasker.domain.states import TaskState
from tasker.v1 import common_pb2, tasks_pb2

#: What a listing can be sorted by; equal values are ordered by task_uuid.
SortField = Literal["created_at", "updated_at", "completed_at", "priority", "state", "name", "namespace"]


class TaskQuery(TypedDict, total=False):
    """Which tasks to list and in which order. What is given must hold all at once; what is not given matches all.

    Attributes:
        namespace: Namespace of the template.
        name: Name of the template.
        states: Any of these states.
        tags: All of these labels.
        tags_any: At least one of these labels.
        initiator: Who asked for the task.
        source_system: Where the request came from.
        correlation_id: What ties the task to other work.
        parent_correlation_id: Correlation id of the work that caused the task.
        created_after: Created at this instant or later; with a time zone, as all instants.
        created_before: Created before this instant.
        updated_after: Last changed at this instant or later.
        updated_before: Last changed before this instant.
        sort: What to sort by; `created_at` if not given.
        ascending: Smallest or oldest first; largest or newest first if not given.
        context: False leaves the contexts out (they are empty then), which can make a page much smaller.
    """

    namespace: str
    name: str
    states: Sequence[TaskState]
    tags: Sequence[str]
    tags_any: Sequence[str]
    initiator: str
    source_system: str
    correlation_id: UUID | str
    parent_correlation_id: UUID | str
    created_after: datetime
    created_before: datetime
    updated_after: datetime
    updated_before: datetime
    sort: SortField
    ascending: bool
    context: bool


_AS_GIVEN: Final = ("namespace", "name", "tags", "tags_any", "initiator", "source_system")
_AS_TEXT: Final = ("correlation_id", "parent_correlation_id")


def list_request(query: TaskQuery, *, size: int, token: str | None) -> tasks_pb2.ListTasksRequest:
    """Return the request for a page.

    Raises:
        TypeError: The query has a key that is none.
        ValueError: An instant has no time zone.
    """
    if unknown := sorted(query.keys() - TaskQuery.__annotations__.keys()):
        raise TypeError(f"tasks cannot be listed by {', '.join(unknown)}; see tasker.client.TaskQuery")
    given = cast("Mapping[str, Any]", query)
    fields: dict[str, Any] = {name: given[name] for name in _AS_GIVEN if name in given}
    fields |= {name: str(given[name]) for name in _AS_TEXT if name in given}
    request = tasks_pb2.ListTasksRequest(
        **fields,
        pagination=common_pb2.PaginationRequest(limit=size, page_token=token),
        states=[common_pb2.TaskState.Value(f"TASK_STATE_{state.name}") for state in query.get("states", ())],
        omit_context=True if query.get("context") is False else None,
    )
    for field in ("created", "updated"):
        for name, bound in ((f"{field}_after", "start"), (f"{field}_before", "end")):
            if name in given:
                getattr(getattr(request, f"{field}_at"), bound).FromDatetime(_aware(name, given[name]))
    if "sort" in query or "ascending" in query:
        direction = (
            common_pb2.SORT_DIRECTION_ASC if query.get("ascending") else common_pb2.SORT_DIRECTION_DESC
        )
        request.sort.CopyFrom(common_pb2.SortSpec(field=query.get("sort", "created_at"), direction=direction))
    return request


def _aware(name: str, instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"{name} has no time zone: {instant.isoformat()}; give it one, such as datetime.UTC")
    return instant
