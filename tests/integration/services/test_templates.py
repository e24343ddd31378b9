"""tasker.v1.TemplateService: what is registered."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from tasker.domain.templates.validation import parse
from tasker.v1 import common_pb2, templates_pb2
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, diamond
from tests.support.waiting import PATIENCE_SECONDS

RICH: dict[str, Any] = diamond() | {
    "name": "rich",
    "description": "everything",
    "input_schema": {"type": "object", "properties": {"id": {"type": "integer", "maximum": 2**60 + 1}}},
    "default_context": {"n": 1},
}
RICH["steps"][3] = {
    "name": "end",
    "description": "the last one",
    "dependencies": ["right", "left"],
    "handler": {"callable": "shop.end", "initialization": {"k": [1, 2]}},
    "retry": {"retryable": False, "max_attempts": 7},
    "timeout_seconds": 12,
    "result_schema": {"type": "object", "required": ["total"]},
}


async def listed(client: Client, **fields: Any) -> templates_pb2.ListTemplatesResponse:
    return await client.templates.ListTemplates(
        templates_pb2.ListTemplatesRequest(**fields), timeout=PATIENCE_SECONDS
    )


async def got(client: Client, *key: str) -> templates_pb2.TemplateDetail:
    request = templates_pb2.GetTemplateRequest(
        **dict(zip(("namespace", "name", "version"), key, strict=False))
    )
    return (await client.templates.GetTemplate(request, timeout=PATIENCE_SECONDS)).template


async def test_nothing_is_listed_before_anything_is_registered(client: Client) -> None:
    assert await listed(client) == templates_pb2.ListTemplatesResponse()


Page = common_pb2.PaginationRequest


async def test_pages_lead_through_every_version_once(client: Client, engine: Engine) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0", "10.0.0"):
        await engine.register(chain(1) | {"version": version})
    await engine.register(RICH)
    await engine.register(chain(1) | {"namespace_name": "another"})
    for given, count in (({}, 6), ({"namespace": "test"}, 5), ({"namespace": "nowhere"}, 0)):
        whole = await listed(client, **given)
        assert not whole.HasField("pagination")
        assert len(whole.templates) == count
        for limit in (1, 2, 6, 1000):
            page = await listed(client, pagination=Page(limit=limit), **given)
            rows = list(page.templates)
            while page.pagination.has_more:
                token = page.pagination.next_page_token
                page = await listed(client, pagination=Page(limit=limit, page_token=token), **given)
                assert page.pagination.offset == len(rows)
                rows += page.templates
            assert rows == list(whole.templates)
            assert (page.pagination.total, page.total_count) == (count, 6)
            assert page.namespaces == whole.namespaces
    assert (
        list((await listed(client, pagination=Page(limit=2, offset=3))).templates)
        == list((await listed(client)).templates)[3:5]
    )


async def test_a_page_of_templates_that_cannot_be_is_refused(client: Client, engine: Engine) -> None:
    for version in ("1.0.0", "2.0.0"):
        await engine.register(chain(1) | {"version": version})
    token = (await listed(client, pagination=Page(limit=1))).pagination.next_page_token
    for given, wrong in (
        ({"pagination": Page(limit=0)}, "limit"),
        ({"pagination": Page(offset=-1)}, "offset"),
        ({"pagination": Page(page_token=token), "namespace": "test"}, "page_token"),
    ):
        refusal = await refused(listed(client, **given))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {f"pagination.{wrong}"})


async def test_templates_are_listed_with_their_namespaces(client: Client, engine: Engine) -> None:
    for version in ("1.9.0", "1.10.0"):
        await engine.register(chain(3) | {"version": version})
    await engine.register(RICH)
    await engine.register(chain(1) | {"namespace_name": "another"})
    response = await listed(client)
    summaries = [
        (summary.namespace, summary.name, summary.version, summary.description, summary.step_count)
        for summary in response.templates
    ]
    assert summaries == [
        ("another", "workflow", "1.0.0", "", 1),
        ("test", "rich", "1.0.0", "everything", 4),
        ("test", "workflow", "1.10.0", "", 3),
        ("test", "workflow", "1.9.0", "", 3),
    ]
    assert [(n.name, n.template_count) for n in response.namespaces] == [("another", 1), ("test", 3)]
    assert response.total_count == 4
    assert not response.templates[0].HasField("description")

    one = await listed(client, namespace="another")
    assert list(one.templates) == list(response.templates)[:1]
    assert (one.namespaces, one.total_count) == (response.namespaces, 4)
    await engine.database.execute(
        "INSERT INTO tasker.task_namespaces (name, description, created_at, updated_at) "
        "VALUES ('bare', 'none yet', now(), now())"
    )
    (_, bare, _) = (await listed(client)).namespaces
    assert (bare.name, bare.description, bare.template_count) == ("bare", "none yet", 0)
    response = await listed(client)
    none = await listed(client, namespace="unknown")
    assert (len(none.templates), none.namespaces, none.total_count) == (0, response.namespaces, 4)
    refusal = await refused(listed(client, namespace="nul\0"))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {"namespace"})


async def test_a_template_comes_with_all_its_details(client: Client, engine: Engine) -> None:
    await engine.register(RICH)
    detail = await got(client, "test", "rich", "1.0.0")
    assert (detail.namespace, detail.name, detail.version) == ("test", "rich", "1.0.0")
    assert detail.description == "everything"
    assert json.loads(detail.input_schema_json) == RICH["input_schema"]  # exactly, unlike in a Struct
    configuration = MessageToDict(detail.configuration)
    written = parse(RICH).to_json() | {"input_schema": None}
    assert configuration | {"input_schema": None} == written
    assert [step.name for step in detail.steps] == ["start", "left", "right", "end"]
    plain, *_, last = detail.steps
    assert plain == templates_pb2.StepDefinition(
        name="start", default_retryable=True, default_max_attempts=3, handler="work", step_type="standard"
    )
    assert (last.description, last.handler, last.step_type) == ("the last one", "shop.end", "standard")
    assert list(last.dependencies) == ["right", "left"]
    assert (last.default_retryable, last.default_max_attempts, last.timeout_seconds) == (False, 7, 12)
    assert json.loads(last.result_schema_json) == {"type": "object", "required": ["total"]}
    for absent in ("description", "result_schema_json", "timeout_seconds"):
        assert not plain.HasField(absent)


async def test_a_template_without_a_schema_has_none(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    detail = await got(client, "test", "workflow", "1.0.0")
    assert (detail.HasField("input_schema_json"), detail.HasField("description")) == (False, False)


async def test_an_empty_version_means_the_highest(client: Client, engine: Engine) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.30"):
        await engine.register(chain(1) | {"version": version})
    assert (await got(client, "test", "workflow")).version == "1.10.0"


async def test_a_template_that_is_replaced_shows_at_once(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    assert len((await got(client, "test", "workflow")).steps) == 1
    await engine.register(chain(2))
    assert len((await got(client, "test", "workflow")).steps) == 2


async def test_an_unknown_template_is_not_found_with_the_known_versions(
    client: Client, engine: Engine
) -> None:
    for version in ("1.9.0", "1.10.0"):
        await engine.register(chain(1) | {"version": version})
    for key, known in (
        (("test", "workflow", "2.0.0"), "1.10.0,1.9.0"),
        (("test", "nothing", ""), ""),
        (("nowhere", "workflow", "1.9.0"), ""),
    ):
        refusal = await refused(got(client, *key))
        assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
        assert tuple(refusal.facts[name] for name in ("namespace", "name", "version")) == key
        assert refusal.facts["known_versions"] == known


async def test_a_key_that_can_be_none_is_refused(client: Client) -> None:
    for key, fields in (
        (("", ""), {"namespace", "name"}),
        (("test", ""), {"name"}),
        (("test", "nul\0", "1\0"), {"name", "version"}),
    ):
        refusal = await refused(got(client, *key))
        assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, fields)
