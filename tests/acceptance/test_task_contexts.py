"""What a task may be started with, over a real service."""

from __future__ import annotations

import asyncio
import json

from grpc import StatusCode
from structlog.testing import capture_logs

from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain

SCHEMA = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "integer"},
        "email": {"type": "string", "minLength": 3},
        "currency": {"type": "string", "default": "EUR"},
        "address": {"type": "object", "properties": {"country": {"default": "DE"}}},
    },
}
WITH_SCHEMA = chain(1) | {"input_schema": SCHEMA, "default_context": {"shop": "berlin", "email": "a@b"}}


async def test_every_violation_of_the_context_is_listed_and_no_task_is_there(
    client: Client, engine: Engine
) -> None:
    await engine.register(WITH_SCHEMA)
    refusal = await refused(client.create(context={"order_id": "seven", "email": "x", "currency": 5}))
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert refusal.violations == (
        ("context.currency", '5 is not of type "string"'),
        ("context.email", '"x" is shorter than 3 characters'),
        ("context.order_id", '"seven" is not of type "integer"'),
    )
    assert refusal.message == "; ".join(f"{field}: {problem}" for field, problem in refusal.violations)
    assert await engine.sql("SELECT count(*) FROM tasker.tasks") == [(0,)]


async def test_defaults_of_template_and_schema_go_under_the_context(client: Client, engine: Engine) -> None:
    await engine.register(WITH_SCHEMA)
    task = await client.create(context={"order_id": 7, "shop": "paris", "address": {}, "extra": [1]})
    stored = {
        "order_id": 7, "shop": "paris", "email": "a@b", "currency": "EUR", "address": {}, "extra": [1],
    }  # fmt: skip
    assert json.loads(task.context_json) == stored
    ((context,),) = await engine.sql("SELECT context FROM tasker.tasks")
    assert context == stored


async def test_the_setting_says_what_becomes_of_a_context_that_breaks_the_schema(
    database_url: str, engine: Engine
) -> None:
    await engine.register(WITH_SCHEMA)
    for validation, remarks in (("warn", [["context.order_id"]]), ("off", [])):
        with capture_logs() as logs:
            async with (
                services.orchestration(database_url, input_validation=validation) as service,
                Client(service.address) as client,
            ):
                task = await client.create(context={"order_id": "seven"})
                assert json.loads(task.context_json)["currency"] == "EUR"
                refusal = await refused(client.create(context={"order_id": "x" * 10_001}))
                assert refusal.fields == {"context.order_id"}  # limits hold whatever the setting says
        told = [entry for entry in logs if entry["event"] == "context_breaks_schema"]
        assert [entry["fields"] for entry in told] == remarks
        assert "seven" not in str(logs)


async def test_a_pattern_that_would_take_others_forever_holds_nobody_up(
    client: Client, engine: Engine
) -> None:
    await engine.register(
        chain(1)
        | {"input_schema": {"properties": {"title": {"pattern": "^(a+)+$"}, "due": {"format": "date"}}}}
    )
    hostile = {"title": "a" * 9_000 + "!", "due": "2026-02-30"}
    refusals = await asyncio.gather(*(refused(client.create(context=hostile)) for _ in range(20)))
    assert {refusal.code for refusal in refusals} == {StatusCode.INVALID_ARGUMENT}
    assert all(refusal.fields == {"context.title", "context.due"} for refusal in refusals)
    assert (await client.create(context={"title": "aaa", "due": "2026-02-28"})).task_uuid
