"""TaskService/ListTasks: filters, sorts, and rows as GetTask gives them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from tasker.v1 import common_pb2, tasks_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import PATIENCE_SECONDS

Task = tasks_pb2.Task
State = common_pb2.TaskState
Span = common_pb2.TimestampRange

ONE, OTHER = str(uuid4()), str(uuid4())


async def listed(client: Client, **fields: Any) -> tasks_pb2.ListTasksResponse:
    """List, by default all there are at once."""
    fields.setdefault("pagination", common_pb2.PaginationRequest(limit=1000))
    return await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(**fields), timeout=PATIENCE_SECONDS)


@pytest.fixture
async def tasks(client: Client, engine: Engine) -> list[Task]:
    """Tasks of three templates in two namespaces, in every way different, oldest first."""
    await engine.register(diamond())
    later = {
        "backoff": "exponential",
        "backoff_base_ms": 60_000,
        "max_backoff_ms": 60_000,
    }  # not while this runs
    await engine.register(chain(1, retry=later) | {"name": "single", "version": "1.10.0"})
    await engine.register(chain(1) | {"namespace_name": "elsewhere"})
    fields: tuple[dict[str, Any], ...] = (
        {"name": "single", "initiator": "anna", "tags": ["red", "green"], "priority": 5},
        {"name": "single", "source_system": "shop", "tags": ["red"], "correlation_id": ONE},
        {"name": "single", "initiator": "anna", "parent_correlation_id": OTHER, "priority": -5},
        {"namespace": "elsewhere", "tags": ["blue"], "correlation_id": ONE},
        {"source_system": "shop", "initiator": "bert", "parent_correlation_id": OTHER},
        {"context": {"n": 6, "big": 2**60 + 1}, "tags": ["green", "blue", "red"]},
        {"context_json": '{"n": 9007199254740993}', "priority": 5},
    )
    created = [(await client.create(**given)).task_uuid for given in fields]
    first = {step.task_uuid: step for step in await engine.claim()}
    await engine.succeed(first[UUID(created[0])], first[UUID(created[6])])
    await engine.fail(first[UUID(created[1])], retryable=False)
    await engine.fail(first[UUID(created[2])])
    await engine.process()
    await engine.operators.cancel(UUID(created[4]), reason=None, requested_by=None)
    return [await client.get(task_uuid) for task_uuid in created]


def instant(moment: Timestamp, *, nanos: int = 0) -> Timestamp:
    shifted = Timestamp()
    shifted.FromNanoseconds(moment.ToNanoseconds() + nanos)
    return shifted


async def test_rows_are_those_of_get_task_and_the_newest_is_first(client: Client, tasks: list[Task]) -> None:
    states = [State.Name(task.state)[11:] for task in tasks]
    assert states == [
        "COMPLETE",
        "BLOCKED_BY_FAILURES",
        "WAITING_FOR_RETRY",
        "STEPS_IN_PROCESS",
        "CANCELLED",
        "STEPS_IN_PROCESS",
        "STEPS_IN_PROCESS",
    ]
    response = await listed(client, pagination=None)
    assert list(response.tasks) == tasks[::-1]
    assert response.pagination == common_pb2.PaginationResponse(total=7, count=7)
    counts = [(t.pending_steps, t.in_progress_steps, t.ready_steps) for t in tasks]
    assert counts[3:] == [(0, 0, 0), (0, 0, 0), (3, 1, 0), (1, 0, 0)]


async def test_contexts_are_left_out_on_request(client: Client, tasks: list[Task]) -> None:
    (row,) = (await listed(client, omit_context=True, tags=["green", "blue"])).tasks
    assert (row.HasField("context"), row.HasField("context_json")) == (False, False)
    whole = tasks[5]
    for field in ("context", "context_json"):
        whole.ClearField(field)
    assert row == whole


#: The request's filter, and which of the tasks match.
FILTERS: tuple[tuple[dict[str, Any], Callable[[Task], bool]], ...] = (
    ({"namespace": "test"}, lambda t: t.namespace == "test"),
    ({"namespace": "elsewhere"}, lambda t: t.namespace == "elsewhere"),
    ({"namespace": "nowhere"}, lambda t: False),
    ({"namespace": ""}, lambda t: True),
    ({"name": "single"}, lambda t: t.name == "single"),
    ({"name": "workflow", "namespace": "test"}, lambda t: (t.name, t.namespace) == ("workflow", "test")),
    ({"states": [State.TASK_STATE_COMPLETE]}, lambda t: t.state == State.TASK_STATE_COMPLETE),
    ({"states": [State.TASK_STATE_PENDING]}, lambda t: False),
    (
        {"states": [State.TASK_STATE_CANCELLED, State.TASK_STATE_BLOCKED_BY_FAILURES]},
        lambda t: t.state in (State.TASK_STATE_CANCELLED, State.TASK_STATE_BLOCKED_BY_FAILURES),
    ),
    (
        {
            "states": [
                State.TASK_STATE_COMPLETE,
                State.TASK_STATE_CANCELLED,
                State.TASK_STATE_WAITING_FOR_RETRY,
            ]
        },
        lambda t: State.Name(t.state).endswith(("COMPLETE", "CANCELLED", "RETRY")),
    ),
    ({"initiator": "anna"}, lambda t: t.initiator == "anna"),
    ({"initiator": "grpc"}, lambda t: t.initiator == "grpc"),
    ({"source_system": "shop"}, lambda t: t.source_system == "shop"),
    ({"source_system": "tasker-core"}, lambda t: t.source_system == "tasker-core"),
    ({"correlation_id": ONE}, lambda t: t.correlation_id == ONE),
    ({"correlation_id": ONE.upper()}, lambda t: t.correlation_id == ONE),
    ({"parent_correlation_id": OTHER}, lambda t: t.parent_correlation_id == OTHER),
    ({"parent_correlation_id": ONE}, lambda t: False),
    ({"tags": ["red"]}, lambda t: "red" in t.tags),
    ({"tags": ["red", "blue"]}, lambda t: {"red", "blue"} <= set(t.tags)),
    ({"tags_any": ["blue", *(f"t{n}" for n in range(99))]}, lambda t: "blue" in t.tags),
    ({"tags_any": ["green", "blue", "pink"]}, lambda t: bool({"green", "blue"} & set(t.tags))),
    ({"tags": ["red"], "tags_any": ["green"]}, lambda t: {"red", "green"} <= set(t.tags)),
    (
        {"initiator": "anna", "tags": ["red"], "states": [State.TASK_STATE_COMPLETE], "name": "single"},
        lambda t: t.initiator == "anna" and "red" in t.tags,
    ),
)


async def test_every_filter_and_their_combinations(client: Client, tasks: list[Task]) -> None:
    for given, matches in FILTERS:
        response = await listed(client, **given)
        wanted = [task for task in tasks[::-1] if matches(task)]
        assert list(response.tasks) == wanted, given
        assert response.pagination == common_pb2.PaginationResponse(total=len(wanted), count=len(wanted)), (
            given
        )


@pytest.mark.parametrize("field", ["created_at", "updated_at"])
async def test_a_span_holds_its_start_and_not_its_end(client: Client, tasks: list[Task], field: str) -> None:
    moments = {task.task_uuid: getattr(task, field).ToNanoseconds() for task in tasks}
    assert len(set(moments.values())) > 3
    bounds = [getattr(task, field) for task in tasks]
    for bound in bounds:
        for nanos in (0, 1, -1):  # ours are whole microseconds
            cut = instant(bound, nanos=nanos)
            since = await listed(client, **{field: Span(start=cut)})
            until = await listed(client, **{field: Span(end=cut)})
            assert {task.task_uuid for task in since.tasks} == {
                uuid for uuid, at in moments.items() if at >= cut.ToNanoseconds()
            }
            assert {task.task_uuid for task in until.tasks} == {
                uuid for uuid, at in moments.items() if at < cut.ToNanoseconds()
            }
    ends = sorted(bounds, key=Timestamp.ToNanoseconds)
    between = await listed(client, **{field: Span(start=ends[1], end=ends[-1])})
    assert len(between.tasks) == sum(
        ends[1].ToNanoseconds() <= at < ends[-1].ToNanoseconds() for at in moments.values()
    )
    forever = Span(
        start=Timestamp(seconds=-62_135_596_800), end=Timestamp(seconds=253_402_300_799, nanos=999_999_999)
    )
    assert len((await listed(client, **{field: forever})).tasks) == len(tasks)
    assert not (await listed(client, **{field: Span(start=ends[0], end=ends[0])})).tasks


SORTS: dict[str, Callable[[Task], Any]] = {
    "created_at": lambda t: t.created_at.ToNanoseconds(),
    "updated_at": lambda t: t.updated_at.ToNanoseconds(),
    "priority": lambda t: t.priority,
    "state": lambda t: State.Name(t.state).lower(),
    "name": lambda t: t.name,
    "namespace": lambda t: t.namespace,
}


async def test_every_sort_in_both_directions(client: Client, tasks: list[Task]) -> None:
    for field, value in SORTS.items():
        ascending = sorted(tasks, key=lambda task: (value(task), UUID(task.task_uuid)))
        for direction, wanted in (
            (common_pb2.SORT_DIRECTION_ASC, ascending),
            (common_pb2.SORT_DIRECTION_UNSPECIFIED, ascending),
            (common_pb2.SORT_DIRECTION_DESC, ascending[::-1]),
        ):
            response = await listed(client, sort=common_pb2.SortSpec(field=field, direction=direction))
            assert [task.task_uuid for task in response.tasks] == [task.task_uuid for task in wanted], field


async def test_tasks_that_never_completed_come_last_by_completion(
    client: Client, engine: Engine, tasks: list[Task]
) -> None:
    later = (await client.create(name="single")).task_uuid
    await engine.succeed(*[step for step in await engine.claim() if step.task_uuid == UUID(later)])
    await engine.process()
    for direction, first in (
        (common_pb2.SORT_DIRECTION_ASC, [tasks[0].task_uuid, later]),
        (common_pb2.SORT_DIRECTION_DESC, [later, tasks[0].task_uuid]),
    ):
        sort = common_pb2.SortSpec(field="completed_at", direction=direction)
        rows = (await listed(client, sort=sort)).tasks
        assert [row.task_uuid for row in rows[:2]] == first
        assert [row.HasField("completed_at") for row in rows] == [True] * 2 + [False] * 6
        paged = []
        page = common_pb2.PaginationRequest(limit=3)
        while True:
            response = await listed(client, sort=sort, pagination=page)
            paged += [row.task_uuid for row in response.tasks]
            if not response.pagination.has_more:
                break
            page.page_token = response.pagination.next_page_token
        assert paged == [row.task_uuid for row in rows]


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"states": [0]}, "states[0]"),
    ({"states": [State.TASK_STATE_COMPLETE, 99]}, "states[1]"),
    ({"namespace": "nul\0"}, "namespace"),
    ({"name": "x" * 256}, "name"),
    ({"initiator": "nul\0"}, "initiator"),
    ({"source_system": "x" * 256}, "source_system"),
    ({"correlation_id": "7"}, "correlation_id"),
    ({"parent_correlation_id": "{" + ONE + "}"}, "parent_correlation_id"),
    ({"tags": ["red", ""]}, "tags[1]"),
    ({"tags_any": ["nul\0"]}, "tags_any[0]"),
    ({"states": [State.TASK_STATE_COMPLETE] * 101}, "states"),
    ({"tags": ["red"] * 101}, "tags"),
    ({"tags_any": [f"t{n}" for n in range(100_000)]}, "tags_any"),
    ({"sort": common_pb2.SortSpec(field="context; DROP TABLE tasker.tasks")}, "sort.field"),
    ({"sort": common_pb2.SortSpec(field="CREATED_AT")}, "sort.field"),
    ({"sort": common_pb2.SortSpec(field="state", direction=7)}, "sort.direction"),  # type: ignore[arg-type]
    ({"created_at": Span(start=Timestamp(seconds=2**60))}, "created_at.start"),
    ({"created_at": Span(end=Timestamp(seconds=-(2**60)))}, "created_at.end"),
    ({"updated_at": Span(end=Timestamp(nanos=1_000_000_000))}, "updated_at.end"),
    ({"updated_at": Span(start=Timestamp(nanos=-1))}, "updated_at.start"),
    ({"created_at": Span(start=Timestamp(seconds=2), end=Timestamp(seconds=1))}, "created_at"),
    ({"pagination": common_pb2.PaginationRequest(limit=0)}, "pagination.limit"),
    ({"pagination": common_pb2.PaginationRequest(limit=-1)}, "pagination.limit"),
    ({"pagination": common_pb2.PaginationRequest(limit=1001)}, "pagination.limit"),
    ({"pagination": common_pb2.PaginationRequest(offset=-1)}, "pagination.offset"),
)


async def test_a_bad_request_names_its_field(client: Client) -> None:
    for given, field in BAD:
        refusal = await refused(listed(client, **given))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {field}), given
    everything = await refused(
        listed(client, name="nul\0", states=[0], pagination={"limit": 0, "offset": -1})
    )
    assert everything.fields == {"name", "states[0]", "pagination.limit", "pagination.offset"}


async def test_a_span_without_bounds_and_an_empty_sort_change_nothing(
    client: Client, tasks: list[Task]
) -> None:
    newest = common_pb2.SortSpec(direction=common_pb2.SORT_DIRECTION_DESC)
    response = await listed(client, created_at=Span(), updated_at=Span(), sort=newest)
    assert list(response.tasks) == tasks[::-1]
    soon = datetime.now(UTC) + timedelta(days=1)
    future = Timestamp()
    future.FromDatetime(soon)
    assert not (await listed(client, created_at=Span(start=future))).tasks
