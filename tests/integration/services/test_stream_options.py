"""TaskService/StreamTaskStatus: how the task stands at first, what is shown, signs of life; what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode

from tasker.v1 import common_pb2
from tests.integration.services.updates import (
    COMPLETE,
    ERROR,
    STEP_CHANGE,
    TASK_CHANGE,
    UNSPECIFIED,
    read,
    shown,
    state,
)
from tests.support import services
from tests.support.clients import Client, refused
from tests.support.engine import Engine, chain, graph
from tests.support.workshop import Workshop

# The first message


async def test_the_first_message_has_the_task_without_its_context(client: Client, engine: Engine) -> None:
    await engine.register(chain(2))
    task = await client.create(context={"secret": "x"}, tags=["a"])
    first = await read(client.stream(task.task_uuid))
    bare = await client.get(task.task_uuid)
    assert bare.HasField("context")
    bare.ClearField("context")
    bare.ClearField("context_json")
    assert first.task == bare
    assert first.task_state == bare.state
    assert not first.steps


async def test_the_first_message_has_the_steps_as_they_stand(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": ["a"], "c": []}))
    task_uuid = (await client.create()).task_uuid
    await engine.claim(1)
    stream = client.stream(task_uuid, include_steps=True)
    first = await read(stream)
    steps = await engine.steps(UUID(task_uuid))
    told = {
        step.name: (common_pb2.StepState.Name(step.state).removeprefix("STEP_STATE_").lower(), step.attempt)
        for step in first.steps
    }
    assert told == {name: (step.state, step.attempts) for name, step in steps.items()}
    assert {UUID(step.step_uuid) for step in first.steps} == {step.step_uuid for step in steps.values()}
    assert sorted(told.values()) == [("enqueued", 0), ("in_progress", 1), ("pending", 0)]
    # What follows follows on it.
    (other,) = await engine.claim()
    assert shown([await read(stream)]) == [(other.name, "in_progress", 1)]


async def test_very_many_steps_come_in_several_messages(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.orchestration.services.updates._MOST_STEPS", 3)
    names = [f"s{n}" for n in range(7)]
    await engine.register(graph({name: [] for name in names}))
    stream = client.stream((await client.create()).task_uuid, include_steps=True)
    parts = [await read(stream) for _ in range(3)]
    assert [len(part.steps) for part in parts] == [3, 3, 1]
    assert [step.name for part in parts for step in part.steps] == names
    assert [part.HasField("cursor") for part in parts] == [False, False, True]


# What is shown


async def test_only_chosen_types_come(
    database_url: str, client: Client, workshop: Workshop, templates: Path
) -> None:
    async with services.worker(database_url, workshop.registry, templates):
        task_uuid = (await client.create()).task_uuid
        told = await client.watch(task_uuid, resume_cursor="", update_types=[COMPLETE, ERROR])
    assert [update.update_type for update in told] == [COMPLETE]
    assert (told[0].cursor, state(told[0])) != ("", "")
    some = await client.watch(
        task_uuid, resume_cursor="", include_steps=True, update_types=[TASK_CHANGE, STEP_CHANGE]
    )
    assert {update.update_type for update in some} == {TASK_CHANGE, STEP_CHANGE}
    assert state(some[-1]) == "complete"


async def test_a_stream_ends_though_its_end_is_not_shown(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid, include_steps=True, update_types=[STEP_CHANGE])
    first = await read(stream)
    assert first.update_type == TASK_CHANGE  # it comes in any case
    await engine.succeed(*await engine.claim())
    assert {update.update_type async for update in stream} == {STEP_CHANGE}


async def test_only_chosen_steps_come(
    database_url: str, client: Client, workshop: Workshop, templates: Path
) -> None:
    async with services.worker(database_url, workshop.registry, templates):
        task_uuid = (await client.create()).task_uuid
        told = await client.watch(task_uuid, resume_cursor="", include_steps=True, step_names=["s2", "s9"])
        present = await client.watch(task_uuid, include_steps=True, step_names=["s2"])
    assert {update.step_update.name for update in told if update.update_type == STEP_CHANGE} == {"s2"}
    assert told[-1].update_type == COMPLETE
    assert [step.name for step in present[0].steps] == ["s2"]


async def test_the_last_shown_update_of_a_group_carries_its_cursor(client: Client, engine: Engine) -> None:
    """What is read at once ends with an update that is not shown."""
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    await engine.claim()
    told = client.stream(task_uuid, include_steps=True, resume_cursor="", update_types=[TASK_CHANGE])
    only = await read(told)
    assert only.HasField("cursor")
    again = client.stream(task_uuid, include_steps=True, resume_cursor=only.cursor, heartbeat_seconds=1)
    assert (await read(again)).update_type == UNSPECIFIED


# Signs of life


async def test_a_silent_stream_gives_signs_of_life(client: Client, engine: Engine) -> None:
    await engine.register(chain(1))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid, heartbeat_seconds=1)
    await read(stream)
    sign, other = await read(stream), await read(stream)
    for one in (sign, other):
        assert (one.update_type, one.task_uuid) == (UNSPECIFIED, task_uuid)
        assert not one.HasField("task_state")
        assert one.HasField("cursor")
    await engine.succeed(*await engine.claim())
    assert [u.update_type async for u in stream if u.update_type != UNSPECIFIED] == [TASK_CHANGE, COMPLETE]
    again = await client.watch(task_uuid, resume_cursor=sign.cursor)
    assert [update.update_type for update in again] == [TASK_CHANGE, COMPLETE]


async def test_what_is_not_shown_is_no_sign_of_life(client: Client, engine: Engine) -> None:
    await engine.register(graph({"a": [], "b": []}))
    task_uuid = (await client.create()).task_uuid
    stream = client.stream(task_uuid, include_steps=True, step_names=["c"], heartbeat_seconds=1)
    await read(stream)
    await engine.claim()
    sign = await read(stream)
    assert sign.update_type == UNSPECIFIED
    assert sign.HasField("cursor")


# What it refuses


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"heartbeat_seconds": 0}, "heartbeat_seconds"),
        ({"heartbeat_seconds": -1}, "heartbeat_seconds"),
        ({"heartbeat_seconds": 3601}, "heartbeat_seconds"),
        ({"update_types": [COMPLETE, UNSPECIFIED]}, "update_types[1]"),
        ({"update_types": [99]}, "update_types[0]"),
        ({"update_types": [STEP_CHANGE]}, "update_types[0]"),
        ({"step_names": ["a"]}, "step_names"),
        ({"include_steps": True, "step_names": ["a", ""]}, "step_names[1]"),
        ({"include_steps": True, "step_names": ["a\0"]}, "step_names[0]"),
        ({"include_steps": True, "step_names": ["a"] * 1001}, "step_names"),
        ({"resume_cursor": "x"}, "resume_cursor"),
    ],
)
async def test_a_mistake_is_named(client: Client, engine: Engine, fields: dict[str, Any], wrong: str) -> None:
    await engine.register(chain(1))
    refusal = await refused(client.watch((await client.create()).task_uuid, **fields))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, {wrong})


async def test_all_mistakes_are_named_at_once(client: Client) -> None:
    refusal = await refused(client.watch("x", heartbeat_seconds=0, step_names=["a"]))
    assert refusal.fields == {"task_uuid", "heartbeat_seconds", "step_names"}
