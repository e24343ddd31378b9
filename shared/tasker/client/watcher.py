"""The part of the client that watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import overload
from uuid import UUID

from tasker.client.connection import Connection
from tasker.client.records import Heartbeat, StepUpdate, TaskUpdate, WatchedUpdate
from tasker.client.watching import TaskWish, watch, watch_tasks
from tasker.domain.states import TaskState
from tasker.v1 import common_pb2, watch_pb2


class Watcher:
    """Watches tasks, on channels of their own: calls never wait for them."""

    _connection: Connection

    @overload
    def watch(
        self,
        task_uuid: UUID | str,
        *,
        steps: bool = False,
        step_names: Sequence[str] = (),
        from_start: bool = False,
        resume_cursor: str | None = None,
        heartbeat_seconds: None = None,
    ) -> AsyncGenerator[TaskUpdate | StepUpdate, None]: ...

    @overload
    def watch(
        self,
        task_uuid: UUID | str,
        *,
        steps: bool = False,
        step_names: Sequence[str] = (),
        from_start: bool = False,
        resume_cursor: str | None = None,
        heartbeat_seconds: int,
    ) -> AsyncGenerator[TaskUpdate | StepUpdate | Heartbeat, None]: ...

    def watch(
        self,
        task_uuid: UUID | str,
        *,
        steps: bool = False,
        step_names: Sequence[str] = (),
        from_start: bool = False,
        resume_cursor: str | None = None,
        heartbeat_seconds: int | None = None,
    ) -> AsyncGenerator[TaskUpdate | StepUpdate | Heartbeat, None]:
        """Watch a task: yield every change in the order of the commits until the task is settled.

        Settled means terminal or `blocked_by_failures`; that update says `is_last`. A lost connection is
        taken up where it broke off, so that nothing is missed and nothing comes twice.

        Args:
            task_uuid: The task.
            steps: Whether to yield what its steps do, too.
            step_names: Only of these steps.
            from_start: Whether to begin with the task's first change. Otherwise the first update is the state
                the task is in now, with its steps if they are watched.
            resume_cursor: Go on behind the update that had this cursor, perhaps in another process.
            heartbeat_seconds: Yield a `Heartbeat` when nothing happened for so long, 1 to 3600.

        Raises:
            NotFoundError: There is no such task.
            InvalidArgumentError: The cursor is of another task.
            ResourceExhaustedError: The service has as many streams open as it may.
            UnavailableError: The service did not come back in time.
        """
        self._connection.check_open()
        wish = TaskWish(UUID(str(task_uuid)), steps, step_names, from_start, resume_cursor, heartbeat_seconds)
        return watch(self._connection.watching, wish, patience_seconds=self._connection.timeout_seconds)

    def watch_tasks(
        self,
        *,
        namespace: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        correlation_id: UUID | str | None = None,
        states: Sequence[TaskState] = (),
        steps: bool = False,
        resume_cursor: str | None = None,
        heartbeat_seconds: int | None = None,
    ) -> AsyncGenerator[WatchedUpdate, None]:
        """Watch all tasks that match everything given, those included that are created later; it does not end.

        The first update is a sign of life: from then on nothing is missed and nothing comes twice, over lost
        connections, too. Updates come in the order of the commits.

        Args:
            namespace: Namespace of the template.
            name: Name of the template.
            tags: All of these labels.
            correlation_id: What ties the tasks to other work.
            states: Only when a task comes to one of these states.
            steps: Whether to yield what the tasks' steps do, too; at most 1000 open tasks may match then.
            resume_cursor: Go on behind the update that had this cursor; the filters have to be the same.
            heartbeat_seconds: Yield a sign of life when nothing happened for so long, 1 to 3600.

        Raises:
            InvalidArgumentError: The cursor is of other filters, or a filter is wrong.
            ResourceExhaustedError: The service has as many streams open as it may, or too many tasks match.
            UnavailableError: The service did not come back in time.
        """
        self._connection.check_open()
        request = watch_pb2.WatchTasksRequest(
            namespace=namespace,
            name=name,
            tags=tags,
            correlation_id=str(correlation_id) if correlation_id else None,
            states=[common_pb2.TaskState.Value(f"TASK_STATE_{state.name}") for state in states],
            include_steps=steps,
            resume_cursor=resume_cursor,
            heartbeat_seconds=heartbeat_seconds,
        )
        return watch_tasks(
            self._connection.watching, request, patience_seconds=self._connection.timeout_seconds
        )
