"""Reading streams, and what they should have brought."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from grpc import aio

from tasker.v1 import common_pb2
from tests.support.clients import Update
from tests.support.engine import Engine
from tests.support.waiting import within

COMPLETE, ERROR = Update.UPDATE_TYPE_TASK_COMPLETE, Update.UPDATE_TYPE_TASK_ERROR
UNSPECIFIED = Update.UPDATE_TYPE_UNSPECIFIED
TASK_CHANGE, STEP_CHANGE = Update.UPDATE_TYPE_TASK_STATE_CHANGE, Update.UPDATE_TYPE_STEP_STATE_CHANGE


def shown(updates: Iterable[Update]) -> list[tuple[Any, ...]]:
    """Return updates in brief: a task's state, or a step's name, state and attempt."""
    return [
        (update.step_update.name, state(update), update.step_update.attempt)
        if update.update_type == STEP_CHANGE
        else (state(update),)
        for update in updates
    ]


def state(update: Update) -> str:
    if update.update_type == STEP_CHANGE:
        return common_pb2.StepState.Name(update.step_update.state).removeprefix("STEP_STATE_").lower()
    return common_pb2.TaskState.Name(update.task_state).removeprefix("TASK_STATE_").lower()


async def history(engine: Engine, task_uuid: str) -> dict[str, list[str]]:
    """Return the states each entity of a task came to, in order, by name; the task is ''."""
    told: dict[str, list[str]] = {}
    for name, to_state in await engine.sql(
        "SELECT '' AS name, to_state FROM (SELECT * FROM tasker.task_transitions WHERE task_uuid = %s "
        "ORDER BY sort_key) t UNION ALL SELECT name, to_state FROM (SELECT s.name, t.to_state FROM "
        "tasker.workflow_step_transitions t JOIN tasker.workflow_steps s USING (task_uuid, step_uuid) "
        "WHERE t.task_uuid = %s ORDER BY t.sort_key) t",
        UUID(task_uuid),
        UUID(task_uuid),
    ):
        told.setdefault(name, []).append(to_state)
    return told


def by_entity(updates: Iterable[Update]) -> dict[str, list[str]]:
    """Return the states that updates brought, by entity."""
    told: dict[str, list[str]] = {}
    for update in updates:
        if update.update_type in (TASK_CHANGE, STEP_CHANGE):
            told.setdefault(update.step_update.name, []).append(state(update))
    return told


async def read(stream: aio.UnaryStreamCall[Any, Update]) -> Update:
    """Return the next message."""
    update = await within(anext(aiter(stream)))
    assert isinstance(update, Update)
    return update
