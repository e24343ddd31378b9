"""The beginning of a uuid: what is one, what it fits, and what is said when it fits nothing or too much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import typer

from tasker.ctl.failures import CommandError, ExitCode
from tasker.ctl.prefixes import UuidPrefix, find_step, find_task, the_one, uuid_prefix
from tasker.domain.uuids import uuid7
from tasker.v1 import common_pb2, steps_pb2, tasks_pb2
from tests.unit.client.scripted import STEP, TASK, playing, sends, step_message, task_message

WHOLE = str(TASK)


@pytest.mark.parametrize(
    "text", [WHOLE, WHOLE.upper(), TASK.hex, WHOLE[:4], WHOLE[:8], WHOLE[:9], WHOLE[:10], TASK.hex[:10], WHOLE[:35]]
)  # fmt: skip
def test_a_uuid_or_its_beginning_is_taken_as_it_is_written(text: str) -> None:
    prefix = uuid_prefix(text)
    assert prefix.fits(TASK)
    assert prefix.uuid == (TASK if len(text.replace("-", "")) == 32 else None)
    assert WHOLE.startswith(str(prefix))


@pytest.mark.parametrize(
    "text", ["", "0198-", "01980000-00007", "checkout", f"{WHOLE}0", "019800001-", " 0198"]
)
def test_what_is_no_beginning_of_a_uuid(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no uuid, nor the beginning of one"):
        uuid_prefix(text)


def test_three_digits_are_too_few() -> None:
    with pytest.raises(typer.BadParameter, match="'019' is too short; give at least 4 digits"):
        uuid_prefix("019")


@pytest.mark.parametrize("digits", [4, 8, 12, 20])
def test_a_beginning_knows_when_its_uuids_were_made(digits: int) -> None:
    before = datetime.now(UTC)
    span = UuidPrefix(uuid7().hex[:digits]).span
    assert span is not None
    assert span[0] <= before
    assert span[1] >= datetime.now(UTC)
    assert span[1] - span[0] <= timedelta(milliseconds=16 ** max(12 - digits, 0)) + timedelta(minutes=2)


def test_nothing_is_made_after_the_year_9999() -> None:
    assert UuidPrefix("ffffffff").span is None


def test_more_than_one_are_told() -> None:
    fitting = [
        (UUID(int=(0x01980000 << 96) + number), f"shop/checkout, state {number}") for number in range(7)
    ]
    with pytest.raises(CommandError) as caught:
        the_one(uuid_prefix("01980000"), "task", fitting)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "7 uuids begin with '01980000'; give more of the one you mean" in str(caught.value)
    assert [str(uuid) in str(caught.value) for uuid, _ in fitting] == [True] * 5 + [False] * 2
    assert str(caught.value).endswith("(shop/checkout, state 4); and 2 more")


def test_none_is_told() -> None:
    with pytest.raises(CommandError, match="no task's uuid begins with '01980000-00'") as caught:
        the_one(uuid_prefix("0198000000"), "task", [])
    assert caught.value.exit_code is ExitCode.NOT_FOUND


# Looking for a task


def page(*uuids: UUID, more: bool = False) -> tasks_pb2.ListTasksResponse:
    pagination = common_pb2.PaginationResponse(next_page_token="more" if more else None)
    return tasks_pb2.ListTasksResponse(
        tasks=[task_message(task_uuid=str(uuid)) for uuid in uuids], pagination=pagination
    )


async def test_a_whole_uuid_is_not_looked_for() -> None:
    async with playing(sends(page())) as (client, service):
        assert await find_task(client, uuid_prefix(WHOLE)) == TASK
        assert service.requests == []


async def test_a_task_is_looked_for_at_its_time() -> None:
    later = UUID("01980001-0000-7000-8000-000000000001")
    async with playing(sends(page(later, more=True)), sends(page(TASK))) as (client, service):
        assert await find_task(client, uuid_prefix("01980000")) == TASK
    made = datetime.fromtimestamp(0x019800000000 / 1000, UTC)
    asked = service.requests[0]
    assert asked.created_at.start.ToDatetime(UTC) == made - timedelta(minutes=1)
    assert asked.created_at.end.ToDatetime(UTC) > made + timedelta(milliseconds=0xFFFF)
    assert asked.omit_context


async def test_no_task_and_two_tasks() -> None:
    other = UUID("01980000-0000-7000-8000-00000000ffff")
    async with playing(sends(page()), sends(page(TASK, other))) as (client, _):
        with pytest.raises(CommandError, match="no task's uuid begins with '01980000'"):
            await find_task(client, uuid_prefix("01980000"))
        with pytest.raises(CommandError, match=f"{TASK} .*{other}"):
            await find_task(client, uuid_prefix("01980000"))


async def test_a_time_that_never_comes_is_not_asked_for() -> None:
    async with playing(sends(page())) as (client, service):
        with pytest.raises(CommandError, match="no task's uuid begins with 'ffff'"):
            await find_task(client, uuid_prefix("ffff"))
        assert service.requests == []


async def test_not_more_than_so_many_are_looked_through() -> None:
    others = [UUID(int=(0x0198 << 112) + number) for number in range(1000)]
    async with playing(sends(page(*others, more=True))) as (client, service):
        with pytest.raises(CommandError, match="more than 10,000 tasks are of the time") as caught:
            await find_task(client, uuid_prefix("0198ffff"))
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(service.requests) == 11


# Naming a step

CAFE, BAKE = (UUID(f"cafe0000-0000-7000-8000-00000000000{number}") for number in (1, 2))
#: The results of two did not fit in the reply; of the first one it is there.
STEPS = sends(
    steps_pb2.ListStepsResponse(
        steps=[
            step_message(name="price_cart", results_json="{}"),
            step_message(name="cafe", step_uuid=str(CAFE), results_omitted=True),
            step_message(name="bake", step_uuid=str(BAKE), results_omitted=True),
        ]
    )
)


@pytest.mark.parametrize(
    ("given", "uuid"), [("price_cart", STEP), ("0198", STEP), ("cafe", CAFE), ("bake", BAKE)]
)
async def test_a_step_is_named_by_its_name_first(given: str, uuid: UUID) -> None:
    async with playing(STEPS) as (client, service):
        assert await find_step(client, TASK, given) == uuid
    assert len(service.requests) == 1  # no result is fetched


async def test_a_step_with_a_whole_uuid_is_not_looked_for() -> None:
    async with playing(STEPS) as (client, service):
        assert await find_step(client, TASK, str(BAKE)) == BAKE
        assert service.requests == []


@pytest.mark.parametrize(
    ("given", "said", "code"),
    [
        ("pay", "the task has no step 'pay'; it has price_cart, cafe, bake", ExitCode.NOT_FOUND),
        ("cafe0000", r"2 uuids begin with 'cafe0000'; .* \(cafe\); .* \(bake\)$", ExitCode.USAGE),
        ("beef", "no step's uuid begins with 'beef'", ExitCode.NOT_FOUND),
    ],
)
async def test_what_names_no_step(given: str, said: str, code: ExitCode) -> None:
    async with playing(STEPS) as (client, _):
        with pytest.raises(CommandError, match=said) as caught:
            await find_step(client, TASK, given)
    assert caught.value.exit_code is code
