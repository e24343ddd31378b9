"""What ListTasks asks for, in the listing's terms; all mistakes are told at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.states import TaskState
from tasker.domain.storable import text_problem
from tasker.domain.uuids import parse_uuid
from tasker.orchestration.services import parse, render
from tasker.orchestration.services.paging import Listing, Page, PageTokens
from tasker.persistence.reading.listing import LastTask, TaskFilter, TaskOrder, TaskSort, TimeRange
from tasker.persistence.reading.tasks import TaskRecord
from tasker.v1 import common_pb2, tasks_pb2, watch_pb2

_MAX_CHARACTERS: Final = 255
#: Of one filter. A statement that looks for 100,000 labels takes minutes.
_MOST_VALUES: Final = 100
_STATES: Final = {number: TaskState(name) for name, number in render.TASK_STATES.items() if number}


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """What ListTasks asks for.

    Attributes:
        wanted: Which tasks.
        order: How they are sorted.
        listing: What page tokens belong to.
        page: Which page.
        after: The last task of the page before.
    """

    wanted: TaskFilter
    order: TaskOrder
    listing: Listing
    page: Page
    after: LastTask | None

    def place_of(self, task: TaskRecord) -> list[Any]:
        """Return what places a task in the order, as JSON."""
        value = self.order.by.value_of(task)
        return [value.isoformat() if isinstance(value, datetime) else value, str(task.task_uuid)]


def task_query(request: tasks_pb2.ListTasksRequest, tokens: PageTokens) -> TaskQuery:
    """Return what a request asks for.

    Raises:
        InvalidArgumentError: With everything that is wrong.
    """
    fields = _ListFields(request)
    wanted, order = fields.filter(), fields.order()
    same = tasks_pb2.ListTasksRequest()
    same.CopyFrom(request)
    for unrelated in ("pagination", "omit_context"):
        same.ClearField(unrelated)
    listing = tokens.listing(b"tasks", same.SerializeToString(deterministic=True))
    try:
        page = listing.page(request.pagination)
    except InvalidArgumentError as error:
        fields.violations.extend(error.violations)
    if fields.violations:
        raise InvalidArgumentError(fields.violations)
    return TaskQuery(wanted, order, listing, page, _last_task(page, order))


def _last_task(page: Page, order: TaskOrder) -> LastTask | None:
    if not page.after:
        return None
    value, task_uuid = page.after
    is_instant = order.by in (TaskSort.CREATED_AT, TaskSort.UPDATED_AT, TaskSort.COMPLETED_AT)
    return LastTask(datetime.fromisoformat(value) if is_instant and value else value, UUID(task_uuid))


class Fields:
    """The fields of a request that filters tasks, and what is wrong with them. Empty texts are as good as absent."""

    def __init__(self, request: tasks_pb2.ListTasksRequest | watch_pb2.WatchTasksRequest) -> None:
        self._request = request
        self.violations: list[FieldViolation] = []

    def states(self) -> tuple[TaskState, ...]:
        """Return the states, each once."""
        if self._is_too_long("states"):
            return ()
        for index, number in enumerate(self._request.states):
            if number not in _STATES:
                self.refuse(f"states[{index}]", f"{number} is not a state; leave it out to see every state")
        return tuple(dict.fromkeys(_STATES[number] for number in self._request.states if number in _STATES))

    def text(self, field: str) -> str | None:
        """Return a text, None if it is empty."""
        value: str = getattr(self._request, field)
        self._check_text(field, value)
        return value or None

    def tags(self, field: str) -> tuple[str, ...]:
        """Return labels."""
        if self._is_too_long(field):
            return ()
        tags: Iterable[str] = getattr(self._request, field)
        for index, tag in enumerate(tags):
            if not tag:
                self.refuse(f"{field}[{index}]", "must not be empty")
            self._check_text(f"{field}[{index}]", tag)
        return tuple(tags)

    def uuid(self, field: str) -> UUID | None:
        """Return a uuid, None if it is empty."""
        text: str = getattr(self._request, field)
        return parse.readable(self.violations, lambda: parse_uuid(text, field=field)) if text else None

    def refuse(self, field: str, problem: str) -> None:
        """Note what is wrong with a field."""
        self.violations.append(FieldViolation(field, problem))

    def _is_too_long(self, field: str) -> bool:
        """Whether a list has more values than one statement should look for; if so, it is refused."""
        count = len(getattr(self._request, field))
        if count > _MOST_VALUES:
            self.refuse(field, f"has {count} values, more than {_MOST_VALUES}; ask in several calls")
        return count > _MOST_VALUES

    def _check_text(self, field: str, value: str) -> None:
        if (problem := text_problem(value, _MAX_CHARACTERS)) is not None:
            self.refuse(field, problem)


class _ListFields(Fields):
    """The same of ListTasks."""

    _request: tasks_pb2.ListTasksRequest

    def filter(self) -> TaskFilter:
        return TaskFilter(
            namespace=self.text("namespace"),
            name=self.text("name"),
            states=self.states(),
            created_at=self._range("created_at"),
            updated_at=self._range("updated_at"),
            initiator=self.text("initiator"),
            source_system=self.text("source_system"),
            correlation_id=self.uuid("correlation_id"),
            parent_correlation_id=self.uuid("parent_correlation_id"),
            tags=self.tags("tags"),
            tags_any=self.tags("tags_any"),
        )

    def order(self) -> TaskOrder:
        """Return the sort; as the contract has it, one without a direction is ascending."""
        if not self._request.HasField("sort"):
            return TaskOrder()
        sort = self._request.sort
        if sort.direction not in common_pb2.SortDirection.values():
            self.refuse("sort.direction", f"{sort.direction} is not a SortDirection")
        try:
            by = TaskSort(sort.field or TaskSort.CREATED_AT)
        except ValueError:
            self.refuse("sort.field", f"'{_short(sort.field)}' is not one of {', '.join(TaskSort)}")
            by = TaskSort.CREATED_AT
        return TaskOrder(by, descending=sort.direction == common_pb2.SORT_DIRECTION_DESC)

    def _range(self, field: str) -> TimeRange:
        span: common_pb2.TimestampRange = getattr(self._request, field)
        start = self._instant(f"{field}.start", span.start) if span.HasField("start") else None
        end = self._instant(f"{field}.end", span.end) if span.HasField("end") else None
        if start and end and start > end:
            self.refuse(field, f"starts at {start.isoformat()}, after its end at {end.isoformat()}")
        return TimeRange(start, end)

    def _instant(self, field: str, value: Timestamp) -> datetime | None:
        return parse.readable(self.violations, lambda: parse.instant(value, field))


def _short(text: str) -> str:
    return text if len(text) <= 50 else f"{text[:50]}..."
