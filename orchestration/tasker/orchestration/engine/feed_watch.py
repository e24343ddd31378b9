"""What a watcher of many tasks is told: every committed change of those that match."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from tasker.orchestration.engine.feeds import TaskNews, TaskWish
from tasker.orchestration.engine.task_watch import SignOfLife
from tasker.orchestration.engine.telling import Telling
from tasker.orchestration.engine.watching import Watching
from tasker.persistence.reading.cursors import scope
from tasker.persistence.reading.moved_tasks import MovedTaskReader


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """What to watch.

    Attributes:
        wish: Which tasks.
        steps: Whether to tell what their steps do.
        resume_cursor: Go on behind it; None or empty to begin now.
        heartbeat_seconds: Give a sign of life when there was nothing to tell for so long; None for none.
    """

    wish: TaskWish
    steps: bool = False
    resume_cursor: str | None = None
    heartbeat_seconds: float | None = None

    @property
    def scope(self) -> str:
        """What is watched, as cursors name it."""
        wish = self.wish
        return scope(
            "tasks",
            wish.namespace or "",
            wish.name or "",
            "\n".join(sorted(wish.tags)),
            str(wish.correlation_id or ""),
            "\n".join(sorted(wish.states)),
        )


@dataclass(frozen=True, slots=True)
class News:
    """A committed transition. The last one of those that were read at once carries the cursor behind all of them."""

    news: TaskNews
    cursor: str | None


ToldOfFeed: TypeAlias = News | SignOfLife


class FeedWatch:
    """Watches all tasks that match a wish."""

    def __init__(self, watching: Watching, moved_tasks: MovedTaskReader) -> None:
        self._watching = watching
        self._moved_tasks = moved_tasks

    async def watch(self, request: FeedRequest) -> AsyncGenerator[ToldOfFeed, None]:
        """Tell what happens to the tasks that match, in the order of the commits, for as long as the caller iterates.

        It begins now, with a sign of life, or behind the cursor. Instants never run backwards.

        Raises:
            InvalidArgumentError: The cursor is not one of a watch like this.
            ResourceExhaustedError: What is told was not taken in time; or too many tasks match for their steps to be
                watched.
            UnavailableError: The orchestrator stops, or the database is away; go on with the last cursor.
        """
        telling = Telling(request.scope, request.resume_cursor, heartbeat_seconds=request.heartbeat_seconds)
        async with self._watching.tasks(request.wish, steps=request.steps) as feed:
            now = await self._moved_tasks.now()
            telling.check(now.snapshot)
            if request.steps:
                await self._watching.learn_open_tasks(feed)
            self._watching.begin(
                feed, telling.seen or now.snapshot, now.read_at, behind=telling.seen is not None
            )
            if telling.seen is None:
                yield _sign_of_life(telling, now.snapshot, now.read_at)
            while True:
                group = await feed.take(telling.patience())
                if not group.items:
                    yield _sign_of_life(telling, group.snapshot, group.read_at)
                last = len(group.items) - 1
                for index, item in enumerate(group.items):
                    transition = item.transition
                    at = telling.tell(transition.at)
                    told = (
                        item if at == transition.at else replace(item, transition=replace(transition, at=at))
                    )
                    yield News(told, telling.cursor(group.snapshot) if index == last else None)
                feed.cursor = telling.cursor(group.snapshot)


def _sign_of_life(telling: Telling, snapshot: str, read_at: datetime) -> SignOfLife:
    return SignOfLife(telling.tell(read_at), telling.cursor(snapshot))
