"""Reading for those who watch many tasks: what moves anywhere, and of the tasks that match the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tasker.domain.errors import TooManyWatchedTasksError
from tasker.domain.states import TaskState
from tasker.orchestration.engine.streams import Group, Stream
from tasker.persistence.reading.moved_tasks import MovedTask, MovedTaskReader, MovedTasks
from tasker.persistence.reading.transitions import Line, TransitionReader, TransitionRecord

#: Of what was committed since a watcher was last read for, so many transitions at once.
_MOST_MOVED: Final = 1000
#: The steps of no more tasks can be watched with one stream: after each hint all of them are looked at.
MOST_TASKS_WITH_STEPS: Final = 1000


@dataclass(frozen=True, slots=True)
class TaskWish:
    """Which tasks to watch; what is None or empty matches all.

    Attributes:
        namespace: Namespace of the template.
        name: Name of the template.
        tags: All of these labels.
        correlation_id: What ties the tasks together.
        states: Only transitions of tasks into one of these.
    """

    namespace: str | None = None
    name: str | None = None
    tags: frozenset[str] = frozenset()
    correlation_id: UUID | None = None
    states: frozenset[TaskState] = frozenset()

    def matches(self, task: MovedTask) -> bool:
        """Whether a task is one of them, whatever its state."""
        return (
            self.namespace in (None, task.namespace)
            and self.name in (None, task.name)
            and self.correlation_id in (None, task.correlation_id)
            and self.tags.issubset(task.tags)
        )


@dataclass(frozen=True, slots=True)
class TaskNews:
    """A transition of a task, or of a step of one.

    Attributes:
        namespace: Namespace of the task.
        name: Template name of the task.
        transition: What moved.
    """

    namespace: str
    name: str
    transition: TransitionRecord


class Feed(Stream[TaskNews]):
    """The stream of all tasks that match.

    Attributes:
        wish: Which tasks.
        steps: Whether their steps are wanted.
        tasks: Those whose steps may move, with namespace and template name; only with `steps`.
    """

    def __init__(self, wish: TaskWish, *, steps: bool, on_room: Callable[[], None]) -> None:
        super().__init__(on_room)
        self.wish = wish
        self.steps = steps
        self.tasks: dict[UUID, tuple[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """What reading for feeds came to.

    Attributes:
        news: Whether anybody got anything.
        more: Whether some of what was committed is still to be read.
    """

    news: bool
    more: bool


class FeedReading:
    """Reads for all feeds.

    Attributes:
        feeds: Those that are open.
    """

    def __init__(self, moved_tasks: MovedTaskReader, transitions: TransitionReader) -> None:
        self.feeds: set[Feed] = set()
        self._moved_tasks = moved_tasks
        self._transitions = transitions

    def that_want_more(self) -> list[Feed]:
        """Return the feeds to read for."""
        return [feed for feed in self.feeds if feed.wants_more]

    async def learn_open_tasks(self, feed: Feed) -> None:
        """Have a feed know the open tasks that match, whose steps may move before they do.

        Raises:
            TooManyWatchedTasksError: There are too many.
        """
        wish = feed.wish
        tasks = await self._moved_tasks.open_tasks(
            namespace=wish.namespace,
            name=wish.name,
            tags=sorted(wish.tags),
            correlation_id=wish.correlation_id,
            most=MOST_TASKS_WITH_STEPS + 1,
        )
        if len(tasks) > MOST_TASKS_WITH_STEPS:
            raise _too_many()
        feed.tasks = {task.task_uuid: (task.namespace, task.name) for task in tasks}

    async def read(self, feeds: Sequence[Feed]) -> Found:
        """Read for some feeds: what moved in one statement, then for each that wants them the steps."""
        snapshots = list(dict.fromkeys(feed.snapshot for feed in feeds if feed.snapshot is not None))
        moved = await self._moved_tasks.moved(snapshots, most=_MOST_MOVED)
        news = more = False
        for feed in feeds:
            assert feed.snapshot is not None
            found = moved[feed.snapshot]
            items = [
                _news(task)
                for task in found.moved
                if feed.wish.matches(task) and (not feed.wish.states or task.to_state in feed.wish.states)
            ]
            if feed.steps:
                items += await self._steps(feed, found)
                if len(feed.tasks) > MOST_TASKS_WITH_STEPS:
                    feed.end(_too_many)
                    continue
                # Neither order is disturbed: sorting keeps that of equals.
                items.sort(key=lambda item: (item.transition.at, item.transition.step_uuid is None))
            feed.put(Group(found.snapshot, found.read_at, items))
            news, more = news or bool(items), more or found.more
        return Found(news, more)

    async def _steps(self, feed: Feed, found: MovedTasks) -> list[TaskNews]:
        """Return what steps did until what was found: of open tasks, and of those that have ended since."""
        over: set[UUID] = set()
        for task in found.moved:
            if feed.wish.matches(task):
                feed.tasks[task.task_uuid] = (task.namespace, task.name)
                (over.add if TaskState(task.to_state).is_terminal else over.discard)(task.task_uuid)
        lines = [Line(task_uuid, True, feed.snapshot) for task_uuid in feed.tasks]
        reading = await self._transitions.transitions(lines, until=found.snapshot)
        items = [
            TaskNews(*feed.tasks[transition.task_uuid], transition)
            for transitions in reading.transitions
            for transition in transitions
            if transition.step_uuid is not None
        ]
        for task_uuid in over:
            del feed.tasks[task_uuid]
        return items


def _news(task: MovedTask) -> TaskNews:
    transition = TransitionRecord(
        task.task_uuid, None, None, task.sort_key, task.from_state, task.to_state, None, task.at
    )
    return TaskNews(task.namespace, task.name, transition)


def _too_many() -> TooManyWatchedTasksError:
    return TooManyWatchedTasksError(MOST_TASKS_WITH_STEPS)
