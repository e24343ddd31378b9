"""Pages of ListTasks and ListSteps: limits, offsets, tokens, totals; and that no listing takes a forged token."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode

from tasker.v1 import (
    analytics_pb2,
    common_pb2,
    dlq_pb2,
    operations_pb2,
    operations_pb2_grpc,
    steps_pb2,
    tasks_pb2,
    template_admin_pb2,
    template_admin_pb2_grpc,
    templates_pb2,
    watch_pb2,
)
from tests.support import services
from tests.support.clients import Client, Refusal, refused
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS

Page = common_pb2.PaginationRequest
Reply = common_pb2.PaginationResponse
Sort = common_pb2.SortSpec
ASC, DESC = common_pb2.SORT_DIRECTION_ASC, common_pb2.SORT_DIRECTION_DESC

#: More than what totals count to.
MANY = 10_050


async def page_of(client: Client, page: Page | None = None, **fields: Any) -> tuple[list[str], Reply]:
    response = await client.tasks.ListTasks(
        tasks_pb2.ListTasksRequest(pagination=page, **fields), timeout=PATIENCE_SECONDS
    )
    return [task.task_uuid for task in response.tasks], response.pagination


async def refusal_of(client: Client, page: Page, **fields: Any) -> Refusal:
    return await refused(page_of(client, page, **fields))


async def walk(client: Client, limit: int, **fields: Any) -> list[list[str]]:
    """Go through all pages by their tokens."""
    rows, reply = await page_of(client, Page(limit=limit), **fields)
    pages = [rows]
    while reply.has_more:
        rows, reply = await page_of(client, Page(limit=limit, page_token=reply.next_page_token), **fields)
        pages.append(rows)
    assert not reply.HasField("next_page_token")
    return pages


async def several(client: Client, engine: Engine, count: int = 7) -> list[str]:
    """Create tasks; return them newest first."""
    await engine.register(chain(1))
    return [(await client.create(priority=n % 3)).task_uuid for n in range(count)][::-1]


async def test_limits_and_offsets_are_exact(client: Client, engine: Engine) -> None:
    tasks = await several(client, engine)
    for limit in (1, 2, 3, 7, 8, 1000):
        for offset in (0, 1, 3, 6, 7, 8):
            rows, reply = await page_of(client, Page(limit=limit, offset=offset))
            assert rows == tasks[offset : offset + limit]
            assert (reply.total, reply.count, reply.offset) == (7, len(rows), offset)
            assert reply.has_more == (offset + limit < 7) == reply.HasField("next_page_token")


async def test_a_page_has_50_rows_unless_said_otherwise(client: Client, engine: Engine) -> None:
    tasks = await several(client, engine, 51)
    for page in (None, Page(), Page(offset=0)):
        rows, reply = await page_of(client, page)
        assert rows == tasks[:50]
        assert (reply.total, reply.count, reply.has_more) == (51, 50, True)


@pytest.mark.parametrize(
    "field", ["created_at", "updated_at", "completed_at", "priority", "state", "name", "namespace"]
)
@pytest.mark.parametrize("direction", [ASC, DESC])
async def test_tokens_lead_through_every_task_once(
    client: Client, engine: Engine, field: str, direction: common_pb2.SortDirection.ValueType
) -> None:
    await several(client, engine)
    await engine.succeed(*(await engine.claim())[2:5])
    await engine.process()
    sort = Sort(field=field, direction=direction)
    whole, _ = await page_of(client, sort=sort)
    for limit in (1, 3, 7):
        pages = await walk(client, limit, sort=sort)
        assert [row for page in pages for row in page] == whole
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


async def test_a_walk_is_not_disturbed_by_new_tasks(client: Client, engine: Engine) -> None:
    tasks = await several(client, engine)
    seen, reply = await page_of(client, Page(limit=2))
    while reply.has_more:
        await client.create()
        assert reply.offset == len(seen) - reply.count
        rows, reply = await page_of(client, Page(limit=2, page_token=reply.next_page_token))
        seen += rows
    assert seen == tasks
    assert (reply.total, reply.offset) == (10, 6)


async def test_a_token_goes_with_its_filters_and_its_sort_only(client: Client, engine: Engine) -> None:
    tasks = await several(client, engine)
    _, reply = await page_of(client, Page(limit=2), namespace="test")
    token = reply.next_page_token
    for page, given in (
        (Page(page_token=token), {}),
        (Page(page_token=token), {"namespace": "other"}),
        (Page(page_token=token), {"namespace": "test", "tags": ["a"]}),
        (Page(page_token=token), {"namespace": "test", "sort": Sort(field="created_at")}),
        (Page(page_token=token[:-4]), {"namespace": "test"}),
        (Page(page_token=token[:20] + "x" + token[21:]), {"namespace": "test"}),
        (Page(page_token="no token"), {"namespace": "test"}),
        (Page(page_token="\U0001f600"), {"namespace": "test"}),
        (Page(page_token="A" * 1000), {"namespace": "test"}),
    ):
        refusal = await refusal_of(client, page, **given)
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"pagination.page_token"}), (
            page
        )
        assert "filters" in refusal.message
    refusal = await refusal_of(client, Page(page_token=token, offset=1), namespace="test")
    assert refusal.fields == {"pagination.offset"}
    # What is shown of the rows and how many may change.
    rows, _ = await page_of(client, Page(limit=3, page_token=token), namespace="test", omit_context=True)
    assert rows == tasks[2:5]


def forged(body: bytes, *facts: bytes) -> list[str]:
    """Return tokens as anybody could make them who has read the code, and does not know the key."""
    digests = [sha256(_digested(facts) + body).digest()]
    # Signed with what everybody knows of the listing: nothing, or its name.
    digests += [hmac.digest(key, _digested(facts) + body, "sha256") for key in (b"", facts[0])]
    digests.append(hmac.digest(facts[0], _digested(facts[1:]) + body, "sha256"))
    return [urlsafe_b64encode(digest[:16] + body).decode().rstrip("=") for digest in digests]


def _digested(facts: Iterable[bytes]) -> bytes:
    return b"".join(sha256(fact).digest() for fact in facts)


def every_listing(client: Client, task: str) -> list[tuple[Callable[..., Any], Any, tuple[bytes, ...]]]:
    """Return every call that takes a page token: its method, a request for it, and what makes its listing another."""
    admin = template_admin_pb2_grpc.TemplateAdminServiceStub(client.channel)
    operations = operations_pb2_grpc.OperationsServiceStub(client.channel)
    task_uuid = UUID(task).bytes
    return [
        (client.tasks.ListTasks, tasks_pb2.ListTasksRequest(), (b"tasks", b"")),
        (client.steps.ListSteps, steps_pb2.ListStepsRequest(task_uuid=task), (b"steps", task_uuid)),
        (
            client.steps.GetStepAudit,
            steps_pb2.GetStepAuditRequest(task_uuid=task, step_uuid=task),
            (b"audit", task_uuid, task_uuid),
        ),
        (client.templates.ListTemplates, templates_pb2.ListTemplatesRequest(), (b"templates", b"")),
        (
            admin.ListVersions,
            template_admin_pb2.ListVersionsRequest(namespace="test", name="workflow"),
            (b"versions", b"test", b"workflow"),
        ),
        (client.dlq.ListEntries, dlq_pb2.ListDlqEntriesRequest(), (b"dlq entries", b"", b"")),
        (client.dlq.GetInvestigationQueue, dlq_pb2.GetDlqInvestigationQueueRequest(), (b"dlq queue",)),
        (client.dlq.GetStalenessMonitoring, dlq_pb2.GetStalenessMonitoringRequest(), (b"staleness",)),
        (operations.ListPoison, operations_pb2.ListPoisonRequest(), (b"poison", b"")),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'[2,"2030-01-01T00:00:00+00:00","00000000-0000-7000-8000-000000000000"]',
        b"{", b"5", b"null", b"[]", b"[1]", b'[1,"yesterday","x"]', b'["x",1,7]', b"[" * 5000, b"\xff\xfe",
        b"[" + b"9" * 5000 + b"]",
    ],
)  # fmt: skip
async def test_nobody_else_can_make_a_token(client: Client, engine: Engine, body: bytes) -> None:
    task = (await several(client, engine, 2))[0]
    for call, request, facts in every_listing(client, task):
        for token in forged(body, *facts):
            request.pagination.page_token = token
            refusal = await refused(call(request, timeout=PATIENCE_SECONDS))
            assert (refusal.code, refusal.fields) == (
                StatusCode.INVALID_ARGUMENT,
                {"pagination.page_token"},
            ), facts


async def test_every_call_that_takes_a_page_token_is_tried(client: Client) -> None:
    tried = {request.DESCRIPTOR.full_name for _, request, _ in every_listing(client, str(UUID(int=0)))}
    files = (
        analytics_pb2,
        dlq_pb2,
        operations_pb2,
        steps_pb2,
        tasks_pb2,
        template_admin_pb2,
        templates_pb2,
        watch_pb2,
    )
    paged = {
        method.input_type.full_name
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if "pagination" in method.input_type.fields_by_name
    }
    assert tried == paged


async def test_every_orchestrator_of_a_database_reads_the_tokens_of_the_others(
    client: Client, engine: Engine, database_url: str
) -> None:
    tasks = await several(client, engine)
    _, reply = await page_of(client, Page(limit=2))
    async with services.orchestration(database_url) as other, Client(other.address) as other_client:
        rows, _ = await page_of(other_client, Page(limit=2, page_token=reply.next_page_token))
    assert rows == tasks[2:4]


async def test_totals_and_pages_beyond_what_is_counted(client: Client, engine: Engine) -> None:
    """More tasks than totals count to: found in other ways, with the same answers."""
    first = await several(client, engine)
    assert (await page_of(client))[1].total == 7
    await engine.sql(
        "INSERT INTO tasker.tasks (task_uuid, namespace_id, named_task_uuid, template_digest, correlation_id, "
        "initiator, source_system, reason, priority, tags, requested_at, created_at, updated_at) "
        "SELECT gen_random_uuid(), namespace_id, named_task_uuid, template_digest, correlation_id, 'many', "
        "source_system, reason, n %% 7, ARRAY['many'], created_at, created_at - n / 3 * interval '1 s', updated_at "
        "FROM tasker.tasks, generate_series(1, %s) n WHERE task_uuid = %s RETURNING 1",
        MANY,
        UUID(first[-1]),
    )
    for fields in (
        {},
        {"name": "workflow"},
        {"initiator": "many"},
        {"tags": ["many"]},
        {"states": ["TASK_STATE_PENDING"]},
    ):
        rows, reply = await page_of(client, Page(limit=1000), **fields)
        assert (reply.total, reply.count, reply.has_more) == (10_001, 1000, True)
        wanted = await engine.sql(
            "SELECT task_uuid::text FROM tasker.tasks WHERE initiator = 'many' OR %s "
            "ORDER BY created_at DESC, task_uuid DESC",
            fields in ({}, {"name": "workflow"}),
        )
        everything = [row[0] for row in wanted]
        assert rows == everything[:1000]
        rows, reply = await page_of(client, Page(limit=1000, page_token=reply.next_page_token), **fields)
        assert rows == everything[1000:2000]
        rows, reply = await page_of(client, Page(limit=5, offset=MANY - 3), **fields)
        assert rows == everything[MANY - 3 : MANY + 2]
        assert (reply.total, reply.has_more) == (10_001, len(everything) > MANY + 2)
    assert (
        len({row for page in await walk(client, 1000, sort=Sort(field="name")) for row in page}) == MANY + 7
    )
    assert (await page_of(client, name="workflow", initiator="many", tags=["none"]))[1].total == 0


async def steps_of(client: Client, task: str, page: Page | None = None) -> tuple[list[str], Reply]:
    response = await client.steps.ListSteps(
        steps_pb2.ListStepsRequest(task_uuid=task, pagination=page), timeout=PATIENCE_SECONDS
    )
    return [step.name for step in response.steps], response.pagination


async def test_steps_come_all_at_once_or_by_the_page(client: Client, engine: Engine) -> None:
    await engine.register(chain(60))
    task = (await client.create()).task_uuid
    names = [f"s{n}" for n in range(1, 61)]
    assert await steps_of(client, task) == (names, Reply(total=60, count=60))
    rows, reply = await steps_of(client, task, Page())
    assert (rows, reply.total, reply.count, reply.has_more) == (names[:50], 60, 50, True)
    rows, reply = await steps_of(client, task, Page(limit=7, offset=50))
    assert (rows, reply.offset, reply.has_more) == (names[50:57], 50, True)
    rows, reply = await steps_of(client, task, Page(limit=7, page_token=reply.next_page_token))
    assert (rows, reply) == (names[57:], Reply(total=60, count=3, offset=57))
    other = (await client.create()).task_uuid
    _, reply = await steps_of(client, task, Page(limit=1))
    refusal = await refused(steps_of(client, other, Page(page_token=reply.next_page_token)))
    assert refusal.fields == {"pagination.page_token"}
    assert (await refused(steps_of(client, task, Page(limit=1001)))).fields == {"pagination.limit"}


async def test_pages_of_large_contexts_stay_small_and_lose_nothing(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    for number in range(5):
        await client.create(
            context={"n": number} | {f"part_{part}": f"{number}" * 9000 for part in range(50)}
        )  # 450 kB each
    seen, token, sizes = [], None, []
    while token != "":
        request = tasks_pb2.ListTasksRequest(
            pagination=common_pb2.PaginationRequest(limit=1000, page_token=token)
        )
        reply = await client.tasks.ListTasks(request, timeout=PATIENCE_SECONDS)
        sizes.append(reply.ByteSize())
        seen += [json.loads(task.context_json)["n"] for task in reply.tasks]
        assert reply.pagination.has_more == (reply.pagination.next_page_token != "")
        assert reply.pagination.count == len(reply.tasks)
        token = reply.pagination.next_page_token
    assert seen == [4, 3, 2, 1, 0]
    assert max(sizes) < 4 * 1024 * 1024
    assert len(sizes) > 1
    without = await client.tasks.ListTasks(
        tasks_pb2.ListTasksRequest(omit_context=True), timeout=PATIENCE_SECONDS
    )
    assert len(without.tasks) == 5


async def test_a_context_beyond_the_size_of_a_page_comes_alone(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    for number in range(2):
        await client.create(context={"n": number} | {f"part_{part}": "x" * 9990 for part in range(104)})
    reply = await client.tasks.ListTasks(tasks_pb2.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    assert (len(reply.tasks), reply.pagination.has_more) == (1, True)
