"""A task is created once or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tasker.domain.errors import IdentityConflictError, InvalidArgumentError
from tasker.domain.templates.findings import InvalidTemplateError
from tasker.orchestration.engine.creation import Creation, NewTask
from tests.support.engine import NAMESPACE, Engine, chain, diamond, graph
from tests.support.rivals import assert_history_is_whole, assert_nothing_drifted

_TABLES = (
    "tasks", "workflow_steps", "workflow_step_edges", "task_transitions", "workflow_step_transitions",
    "task_identities", "step_leases", "step_results",
)  # fmt: skip


async def _rows(engine: Engine) -> dict[str, int]:
    return {table: (await engine.sql(f"SELECT count(*) FROM tasker.{table}"))[0][0] for table in _TABLES}


async def test_of_fifty_equal_strict_requests_at_once_one_creates_the_task(
    any_engine: Engine,
) -> None:
    async with Engine(any_engine.url) as other:
        template = await any_engine.register(diamond() | {"identity_strategy": "strict"})
        answers = await asyncio.gather(
            *(
                engine.request(template, {"order": 7})
                for pair in zip([any_engine] * 25, [other] * 25, strict=True)
                for engine in pair
            ),
            return_exceptions=True,
        )
    created = [answer for answer in answers if isinstance(answer, Creation)]
    refused = [answer for answer in answers if isinstance(answer, IdentityConflictError)]
    assert (len(created), len(refused)) == (1, 49)
    assert not created[0].already_existed
    assert {error.existing_task_uuid for error in refused} == {created[0].task.task_uuid}

    assert await _rows(any_engine) == {
        "tasks": 1, "workflow_steps": 4, "workflow_step_edges": 4, "task_transitions": 1,
        "workflow_step_transitions": 1, "task_identities": 1, "step_leases": 0, "step_results": 0,
    }  # fmt: skip
    assert await any_engine.messages(f"worker_{NAMESPACE}_queue") == 1
    await assert_history_is_whole(any_engine, created[0].task.task_uuid)
    await assert_nothing_drifted(any_engine)
    await any_engine.run(created[0].task.task_uuid)


async def test_different_requests_among_them_are_not_held_up(engine: Engine) -> None:
    async with Engine(engine.url) as other:
        template = await engine.register(chain(2) | {"identity_strategy": "strict"})
        answers = await asyncio.gather(
            *(each.request(template, {"order": n % 10}) for n in range(25) for each in (engine, other)),
            return_exceptions=True,
        )
    assert sum(isinstance(answer, Creation) for answer in answers) == 10
    assert sum(isinstance(answer, IdentityConflictError) for answer in answers) == 40
    rows = await _rows(engine)
    assert (rows["tasks"], rows["workflow_steps"], rows["task_identities"]) == (10, 20, 10)


async def test_equal_contexts_collide_and_others_do_not(engine: Engine) -> None:
    template = await engine.register(chain(1) | {"identity_strategy": "strict"})
    await engine.request(template, {"a": 1, "b": 2, "list": [1, 2]})
    with pytest.raises(IdentityConflictError):
        await engine.request(template, {"list": [1.0, 2], "b": 2.0, "a": 1.0})
    await engine.request(template, {"a": 1, "b": 2, "list": [2, 1]})
    later = await engine.register(chain(1) | {"identity_strategy": "strict", "version": "1.0.1"})
    await engine.request(later, {"a": 1, "b": 2, "list": [1, 2]})
    assert (await _rows(engine))["tasks"] == 3


async def test_a_replayed_key_gets_the_task_it_created(engine: Engine) -> None:
    template = await engine.register(chain(1))
    first = await engine.request(template, {"n": 1}, idempotency_key="k")
    again = await engine.request(template, {"n": 1.0}, idempotency_key="k")
    assert (first.already_existed, again.already_existed) == (False, True)
    assert again.task.task_uuid == first.task.task_uuid
    with pytest.raises(IdentityConflictError):
        await engine.request(template, {"n": 2}, idempotency_key="k")
    # Another named task may use the same key.
    other = await engine.register(chain(1) | {"name": "other"})
    assert not (await engine.request(other, {"n": 1}, idempotency_key="k")).already_existed


@pytest.mark.parametrize(
    "document",
    [
        graph({"a": ["b"], "b": ["a"]}),
        graph({"start": [], "a": ["start", "c"], "b": ["a"], "c": ["b"]}),
        graph({"a": ["a"]}),
    ],
    ids=["a cycle of two", "a cycle behind a root", "a step that waits for itself"],
)
async def test_cyclic_templates_leave_nothing(engine: Engine, document: dict[str, Any]) -> None:
    with pytest.raises(InvalidTemplateError):
        await engine.create(document)
    assert set((await _rows(engine)).values()) == {0}
    assert not await engine.sql("SELECT 1 FROM tasker.named_tasks")
    assert not await engine.sql("SELECT 1 FROM tasker.template_revisions")


def _nested(depth: int) -> dict[str, Any]:
    return {"deeper": _nested(depth - 1)} if depth > 1 else {}


@pytest.mark.parametrize(
    "context",
    [
        lambda: _nested(11),
        lambda: {f"key_{n}": n for n in range(1001)},
        lambda: {"items": list(range(1001))},
        lambda: {"text": "x" * 10_001},
        lambda: {f"key_{n}": "x" * 10_000 for n in range(110)},
        lambda: {"text": "a\x00b"},
        lambda: {"number": float("nan")},
    ],
    ids=["deep", "keys", "items", "string", "size", "NUL", "NaN"],
)
async def test_requests_over_a_limit_leave_nothing(
    engine: Engine, context: Callable[[], dict[str, Any]]
) -> None:
    template = await engine.register(chain(2))
    with pytest.raises(InvalidArgumentError):
        await engine.request(template, context())
    assert set((await _rows(engine)).values()) == {0}
    assert await engine.messages(f"worker_{NAMESPACE}_queue") == 0


@pytest.mark.parametrize(
    "field",
    [
        {"priority": 101}, {"priority": -101}, {"initiator": ""}, {"initiator": "x" * 256},
        {"source_system": "x" * 256}, {"reason": "x" * 501}, {"tags": ("",)}, {"idempotency_key": " "},
        {"idempotency_key": "x" * 256},
    ],
    ids=str,
)  # fmt: skip
async def test_fields_over_a_limit_leave_nothing(engine: Engine, field: dict[str, Any]) -> None:
    template = await engine.register(chain(1))
    with pytest.raises(InvalidArgumentError):
        await engine.creator.create(NewTask(NAMESPACE, template.name, template.version, {}, **field))
    assert set((await _rows(engine)).values()) == {0}


@pytest.mark.own_database
async def test_a_request_that_spoils_its_transaction_spoils_no_other(engine: Engine) -> None:
    template = await engine.register(chain(1))  # concurrent requests share a transaction
    await engine.request(template)
    await engine.database.execute(
        "ALTER TABLE tasker.tasks ADD CONSTRAINT only_in_this_test CHECK (initiator <> 'spoiler')"
    )
    answers = await asyncio.gather(
        *(engine.request(template, {"n": n}, initiator="spoiler" if n == 5 else "other") for n in range(10)),
        return_exceptions=True,
    )
    assert [isinstance(answer, Creation) for answer in answers] == [n != 5 for n in range(10)]
    assert (await _rows(engine))["tasks"] == 10
