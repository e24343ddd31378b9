"""The picture of a task: who waits for whom, what moves, what fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console

from tasker.client import StepDefinition, StepState, StepUpdate, TaskState, TaskUpdate, Template, parsing
from tasker.ctl.picture import TaskPicture
from tests.unit.client.scripted import STEP, TASK, task_message

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
DIAMOND = {"start": [], "left": ["start"], "right": ["start"], "end": ["left", "right"]}


def template(parents: Mapping[str, Sequence[str]]) -> Template:
    steps = [
        StepDefinition(
            name=name,
            description=None,
            step_type="standard",
            dependencies=tuple(above),
            handler="work",
            retryable=True,
            max_attempts=3,
            timeout_seconds=None,
            result_schema=None,
        )
        for name, above in parents.items()
    ]
    return Template(
        namespace="shop",
        name="checkout",
        version="1.0.0",
        description=None,
        steps=tuple(steps),
        input_schema=None,
        configuration=None,
    )


def picture_of(parents: Mapping[str, Sequence[str]], *, known: bool = True, room: int = 30) -> TaskPicture:
    task = parsing.task(task_message(namespace="shop", name="checkout", version="1.0.0"))
    return TaskPicture.of(task, list(parents), template(parents) if known else None, room=room)


def moved(name: str, state: StepState, *, after: float = 0, attempt: int = 1) -> StepUpdate:
    at = NOON + timedelta(seconds=after)
    return StepUpdate(task_uuid=TASK, step_uuid=STEP, name=name, at=at, state=state, attempt=attempt)


def drawn(picture: TaskPicture) -> list[str]:
    console = Console(width=120, color_system=None)
    with console.capture() as printed:
        console.print(picture)
    return [line.rstrip() for line in printed.get().splitlines()]


def test_steps_stand_in_the_level_behind_the_last_one_they_wait_for() -> None:
    shuffled = {"end": ["left", "far"], "far": ["right"], **DIAMOND, "alone": []} | {"end": ["left", "far"]}
    assert {name: step.level for name, step in picture_of(shuffled).steps.items()} == {
        "start": 0, "alone": 0, "left": 1, "right": 1, "far": 2, "end": 3,
    }  # fmt: skip


def test_a_picture_shows_levels_states_and_who_waits() -> None:
    picture = picture_of(DIAMOND)
    picture.move(moved("start", StepState.IN_PROGRESS))
    picture.move(moved("start", StepState.ENQUEUED_FOR_ORCHESTRATION, after=0.25))
    picture.move(moved("start", StepState.COMPLETE, after=9))
    picture.move(moved("left", StepState.IN_PROGRESS, after=1, attempt=2))
    picture.move(moved("left", StepState.WAITING_FOR_RETRY, after=3.5, attempt=2))
    picture.move(moved("right", StepState.ENQUEUED, after=1, attempt=0))
    head, *lines = drawn(picture)
    assert head == f"task {TASK}  shop/checkout:1.0.0  steps_in_process  1/4 steps"
    assert [line.split() for line in lines] == [
        ["1", "✔", "start", "complete", "250", "ms"],
        ["2", "↻", "left", "waiting_for_retry", "2.5", "s", "attempt", "2"],
        ["○", "right", "enqueued"],
        ["3", "·", "end", "pending", "after", "left,", "right"],
    ]


def test_the_time_of_a_running_step_runs() -> None:
    picture = picture_of(DIAMOND)
    picture.move(moved("start", StepState.IN_PROGRESS))
    step = picture.steps["start"]
    assert step.took(NOON + timedelta(seconds=3)) == "3.0 s"
    assert step.took(NOON - timedelta(seconds=3)) == "0.0 s"  # a clock that is behind the service's
    picture.move(moved("start", StepState.WAITING_FOR_RETRY, after=1))
    picture.move(moved("start", StepState.IN_PROGRESS, after=60, attempt=2))
    assert step.took(NOON + timedelta(seconds=62)) == "2.0 s"


def test_the_task_moves_too() -> None:
    picture = picture_of(DIAMOND)
    picture.move(TaskUpdate(task_uuid=TASK, at=NOON, state=TaskState.BLOCKED_BY_FAILURES))
    assert "blocked_by_failures" in drawn(picture)[0]


def test_a_step_that_comes_later_finds_its_level() -> None:
    picture = picture_of(DIAMOND)
    late = picture.steps.pop("right")
    picture.move(moved("right", StepState.ENQUEUED))
    picture.move(moved("unheard_of", StepState.ENQUEUED))
    assert picture.steps["right"].level == late.level == 1
    assert list(picture.steps)[-1] == "end"


def test_an_instance_of_a_batch_stands_where_its_batch_worker_would() -> None:
    picture = picture_of({"split": [], "part": ["split"], "join": ["part"]})
    for late in ("part", "join"):
        del picture.steps[late]
    for name in ("part_001", "part_1000", "join"):
        picture.move(moved(name, StepState.ENQUEUED))
    assert {name: step.level for name, step in picture.steps.items()} == {
        "split": 0, "part_001": 1, "part_1000": 1, "join": 2,
    }  # fmt: skip


def test_without_its_template_all_steps_are_one_level() -> None:
    assert {step.level for step in picture_of(DIAMOND, known=False).steps.values()} == {0}


def test_what_does_not_fit_is_summed_up() -> None:
    wide: dict[str, list[str]] = (
        {"start": []} | {f"s{n}": ["start"] for n in range(100)} | {"end": [f"s{n}" for n in range(100)]}
    )
    picture = picture_of(wide, room=30)
    picture.move(moved("start", StepState.COMPLETE))
    for number in range(3):
        picture.move(moved(f"s{number}", StepState.IN_PROGRESS))
    assert drawn(picture)[1:] == ["1  1 complete", "2  3 in_progress, 97 pending", "3  1 pending"]


def test_a_failure_is_explained_until_the_step_moves_on() -> None:
    picture = picture_of({"start": []})
    failed = moved("start", StepState.WAITING_FOR_RETRY)
    picture.move(failed)
    picture.explain(failed, "next try at noon: the bank\n is closed")
    assert drawn(picture)[1].endswith("  next try at noon: the bank is closed")
    picture.move(moved("start", StepState.IN_PROGRESS, attempt=2))
    assert "the bank" not in "".join(drawn(picture))
