"""Listings: what is asked for, page after page; and the other calls that only look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import pytest
from google.protobuf.json_format import MessageToDict

from tasker.client import SyncTaskerClient, TaskerClient, TaskQuery, TaskState, UnavailableError
from tasker.domain import errors
from tasker.v1 import common_pb2, health_pb2, steps_pb2, tasks_pb2, templates_pb2
from tests.unit.client.scripted import STEP, TASK, Act, fails, playing, sends, step_message, task_message

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)

EVERYTHING: TaskQuery = {
    "namespace": "shop",
    "name": "checkout",
    "states": [TaskState.ERROR, TaskState.BLOCKED_BY_FAILURES],
    "tags": ["a", "b"],
    "tags_any": ["c"],
    "initiator": "ada",
    "source_system": "web",
    "correlation_id": TASK,
    "parent_correlation_id": str(STEP),
    "created_after": NOON,
    "created_before": LATER,
    "updated_after": NOON.astimezone(timezone(timedelta(hours=2))),
    "updated_before": LATER,
    "sort": "priority",
    "ascending": True,
    "context": False,
}


def page(*names: str, token: str | None = None, total: int = 0) -> Act:
    return sends(
        tasks_pb2.ListTasksResponse(
            tasks=[task_message(name=name) for name in names],
            pagination=common_pb2.PaginationResponse(total=total, next_page_token=token),
        )
    )


async def test_every_filter_and_the_sort_are_sent() -> None:
    async with playing(page()) as (client, service):
        await client.page(size=7, token="t", **EVERYTHING)
    span = {"start": "2026-01-02T12:00:00Z", "end": "2026-01-02T13:00:00Z"}
    assert MessageToDict(service.requests[0], preserving_proto_field_name=True) == {
        "pagination": {"limit": 7, "page_token": "t"},
        "namespace": "shop",
        "name": "checkout",
        "states": ["TASK_STATE_ERROR", "TASK_STATE_BLOCKED_BY_FAILURES"],
        "tags": ["a", "b"],
        "tags_any": ["c"],
        "initiator": "ada",
        "source_system": "web",
        "correlation_id": str(TASK),
        "parent_correlation_id": str(STEP),
        "created_at": span,
        "updated_at": span,
        "sort": {"field": "priority", "direction": "SORT_DIRECTION_ASC"},
        "omit_context": True,
    }


def test_every_field_of_the_request_can_be_asked_for() -> None:
    """A filter that the contract gets needs a key here."""
    fields = {field.name for field in tasks_pb2.ListTasksRequest.DESCRIPTOR.fields}
    asked = {key.split("_after")[0].split("_before")[0] for key in TaskQuery.__annotations__}
    names = {"created": "created_at", "updated": "updated_at", "ascending": "sort", "context": "omit_context"}
    assert {names.get(key, key) for key in asked} == fields - {"pagination"}
    assert EVERYTHING.keys() == TaskQuery.__annotations__.keys()


async def test_what_is_not_asked_for_is_not_sent() -> None:
    async with playing(page()) as (client, service):
        await client.page()
        await client.page(sort="updated_at")
        await client.page(context=True)
    plain, sorted_, with_context = service.requests
    assert plain == tasks_pb2.ListTasksRequest(pagination=common_pb2.PaginationRequest(limit=100))
    assert sorted_.sort == common_pb2.SortSpec(field="updated_at", direction=common_pb2.SORT_DIRECTION_DESC)
    assert with_context == plain


async def test_a_page_says_how_many_there_are_and_where_it_goes_on() -> None:
    async with playing(page("a", "b", token="t", total=5), page(total=5)) as (client, _):
        first, last = await client.page(), await client.page()
    assert ([task.name for task in first.tasks], first.total, first.next_token) == (["a", "b"], 5, "t")
    assert (last.tasks, last.total, last.next_token) == ((), 5, None)


async def test_a_listing_fetches_pages_when_they_are_needed() -> None:
    async with playing(page("a", "b", token="t1"), page(token="t2"), page("c")) as (client, service):
        tasks = client.list(page_size=2, namespace="shop")
        assert service.requests == []
        assert [(await anext(tasks)).name for _ in range(2)] == ["a", "b"]
        assert len(service.requests) == 1
        assert [task.name async for task in tasks] == ["c"]
    assert [request.pagination.page_token for request in service.requests] == ["", "t1", "t2"]
    assert all(request.pagination.limit == 2 for request in service.requests)
    assert all(request.namespace == "shop" for request in service.requests)


async def test_a_page_that_fails_is_asked_for_again() -> None:
    busy = fails(errors.UnavailableError("too busy", retry_after_seconds=0))
    async with playing(page("a", token="t"), busy, page("b")) as (client, service):
        assert [task.name async for task in client.list()] == ["a", "b"]
    assert [request.pagination.page_token for request in service.requests] == ["", "t", "t"]


async def test_a_query_that_is_none_is_refused_at_home() -> None:
    async with playing(page()) as (client, service):
        with pytest.raises(TypeError, match="namspace"):
            await client.page(**cast("Any", {"namspace": "shop"}))
        with pytest.raises(ValueError, match="created_after has no time zone"):
            await client.page(created_after=datetime(2026, 1, 2))  # noqa: DTZ001
    assert service.requests == []
    with SyncTaskerClient("127.0.0.1:1") as sync, pytest.raises(TypeError, match="namspace"):
        next(sync.list(**cast("Any", {"namspace": "shop"})))


# The other calls

Call = Callable[[TaskerClient], Awaitable[Any]]

CANCELLED = tasks_pb2.CancelTaskResponse(task=task_message(), success=True)
STEP_FOUND = steps_pb2.GetStepResponse(step=step_message())
TEMPLATE_FOUND = templates_pb2.GetTemplateResponse(template=templates_pb2.TemplateDetail(name="checkout"))

SUMMARY = tasks_pb2.GetTaskSummaryResponse(
    task=tasks_pb2.TaskSummaryMetadata(
        task_uuid=str(TASK),
        correlation_id=str(TASK),
        status="complete",
        created_at="2026-01-02T12:00:00+00:00",
        updated_at="2026-01-02T12:00:00+00:00",
    )
)

CALLS = [
    (lambda c: c.page(), tasks_pb2.ListTasksResponse()),
    (lambda c: c.cancel(TASK), CANCELLED),
    (lambda c: c.step(TASK, STEP), STEP_FOUND),
    (lambda c: c.steps(TASK), steps_pb2.ListStepsResponse()),
    (lambda c: c.templates(), templates_pb2.ListTemplatesResponse()),
    (lambda c: c.template("shop", "checkout"), TEMPLATE_FOUND),
    (lambda c: c.context(TASK), tasks_pb2.GetTaskContextResponse()),
    (lambda c: c.summary(TASK), SUMMARY),
    (lambda c: anext(c.step_audit(TASK, STEP), None), steps_pb2.GetStepAuditResponse()),
    (lambda c: c.step_interventions(TASK, STEP), steps_pb2.GetStepAuditResponse()),
]


@pytest.mark.parametrize(("call", "answer"), CALLS)
async def test_a_call_that_may_be_repeated_is(call: Call, answer: Any) -> None:
    busy = fails(errors.UnavailableError("too busy", retry_after_seconds=0))
    async with playing(busy, sends(answer)) as (client, service):
        await call(client)
    first, second = service.requests
    assert first == second


@pytest.mark.parametrize("probe", ["basic", "ready", "detailed"])
async def test_health_is_asked_once(probe: Any) -> None:
    async with playing(fails(errors.UnavailableError("not ready", retry_after_seconds=0))) as (
        client,
        service,
    ):
        with pytest.raises(UnavailableError, match="not ready"):
            await client.health(probe)
    assert len(service.requests) == 1


@pytest.mark.parametrize(("call", "answer"), CALLS)
async def test_a_call_may_have_a_timeout_of_its_own(call: Call, answer: Any) -> None:
    """The service asks for a pause that is longer: it is not waited for."""
    busy = fails(errors.UnavailableError("too busy", retry_after_seconds=20))
    async with playing(busy, sends(answer), timeout_seconds=60) as (client, service):
        timed = TimedClient(client)
        with pytest.raises(UnavailableError):
            await call(cast("TaskerClient", timed))
    assert len(service.requests) == 1


class TimedClient:
    """Gives each call a timeout."""

    def __init__(self, client: TaskerClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: getattr(self._client, name)(*args, **kwargs, timeout=5)


async def test_cancel_says_who_and_why() -> None:
    refused = tasks_pb2.CancelTaskResponse(task=task_message(), message="it is complete")
    async with playing(sends(CANCELLED), sends(refused)) as (client, service):
        done = await client.cancel(TASK, reason="a mistake", requested_by="ada")
        late = await client.cancel(str(TASK))
    assert service.requests == [
        tasks_pb2.CancelTaskRequest(task_uuid=str(TASK), reason="a mistake", requested_by="ada"),
        tasks_pb2.CancelTaskRequest(task_uuid=str(TASK)),
    ]
    assert (done.success, done.message, done.task.task_uuid) == (True, None, TASK)
    assert (late.success, late.message) == (False, "it is complete")


async def test_a_step_is_asked_for_with_its_task() -> None:
    async with playing(sends(STEP_FOUND)) as (client, service):
        assert (await client.step(TASK, str(STEP))).step_uuid == STEP
    assert service.requests == [steps_pb2.GetStepRequest(task_uuid=str(TASK), step_uuid=str(STEP))]


async def test_templates_are_listed() -> None:
    answer = templates_pb2.ListTemplatesResponse(
        namespaces=[templates_pb2.NamespaceSummary(name="shop", description="sells", template_count=3)],
        templates=[
            templates_pb2.TemplateSummary(name="checkout", namespace="shop", version="1.0.0", step_count=5)
        ],
        total_count=4,
    )
    async with playing(sends(answer)) as (client, service):
        listing = await client.templates("shop")
        await client.templates()
    assert service.requests == [
        templates_pb2.ListTemplatesRequest(namespace="shop"),
        templates_pb2.ListTemplatesRequest(),
    ]
    (template,), (namespace,) = listing.templates, listing.namespaces
    assert (template.namespace, template.name, template.version) == ("shop", "checkout", "1.0.0")
    assert (template.description, template.step_count) == (None, 5)
    assert (namespace.name, namespace.description, namespace.template_count) == ("shop", "sells", 3)
    assert listing.total_count == 4


async def test_a_template_comes_with_its_steps_and_schemas() -> None:
    answer = templates_pb2.TemplateDetail(
        name="checkout",
        namespace="shop",
        version="1.2.0",
        description="buy",
        input_schema_json='{"type": "object"}',
        steps=[
            templates_pb2.StepDefinition(
                name="charge",
                description="take money",
                default_retryable=True,
                default_max_attempts=5,
                dependencies=["price"],
                handler="shop.charge",
                step_type="standard",
                result_schema_json='{"maximum": 9007199254740993}',
                timeout_seconds=30,
            ),
            templates_pb2.StepDefinition(name="plain"),
        ],
    )
    answer.configuration["steps"] = [1]
    async with playing(sends(templates_pb2.GetTemplateResponse(template=answer))) as (client, service):
        template = await client.template("shop", "checkout", "1.2.0")
    assert service.requests == [
        templates_pb2.GetTemplateRequest(namespace="shop", name="checkout", version="1.2.0")
    ]
    charge, plain = template.steps
    assert (charge.name, charge.description, charge.step_type) == ("charge", "take money", "standard")
    assert (charge.dependencies, charge.handler) == (("price",), "shop.charge")
    assert (charge.retryable, charge.max_attempts, charge.timeout_seconds) == (True, 5, 30)
    assert charge.result_schema == {"maximum": 2**53 + 1}
    assert (plain.description, plain.timeout_seconds, plain.result_schema) == (None, None, None)
    assert (template.namespace, template.name, template.version) == ("shop", "checkout", "1.2.0")
    assert (template.description, template.input_schema) == ("buy", {"type": "object"})
    assert template.configuration == {"steps": [1]}


async def test_health_brings_its_checks() -> None:
    basic = health_pb2.HealthResponse(status="healthy", timestamp="2026-01-02T12:00:00+00:00")
    check = health_pb2.HealthCheck(status="degraded", message="slow", duration_ms=12)
    detailed = health_pb2.DetailedHealthResponse(
        status="degraded",
        timestamp="2026-01-02T12:00:00Z",
        checks=health_pb2.DetailedHealthChecks(queue_depth=check, web_database=health_pb2.HealthCheck()),
        info=health_pb2.HealthInfo(version="1", environment="test", operational_state="Normal"),
    )
    async with playing(sends(basic), sends(detailed)) as (client, _):
        plain, full = await client.health("basic"), await client.health()
    assert (plain.status, plain.at, plain.checks, plain.info) == ("healthy", NOON, {}, None)
    assert (full.status, full.at, set(full.checks)) == ("degraded", NOON, {"queue_depth", "web_database"})
    depth = full.checks["queue_depth"]
    assert (depth.status, depth.message, depth.duration_ms) == ("degraded", "slow", 12)
    assert full.checks["web_database"].message is None
    assert full.info is not None
    assert (full.info.version, full.info.environment, full.info.operational_state) == ("1", "test", "Normal")


async def test_a_closed_client_says_so() -> None:
    client = TaskerClient("127.0.0.1:1")
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.get(UUID(int=0))
    with pytest.raises(RuntimeError, match="closed"):
        client.watch(TASK)
