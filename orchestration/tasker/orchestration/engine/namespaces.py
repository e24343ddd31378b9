"""Namespaces and their queues, as those see them who run a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tasker.domain.queue_errors import NamespaceNotFoundError
from tasker.orchestration.engine.arguments import check_texts
from tasker.persistence.database import Database
from tasker.persistence.operations.pause import Paused, pause_namespace, resume_namespace
from tasker.persistence.reading.queues import NamespacePause, QueueReader, QueueStatus
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)

#: The longest texts that are kept with a pause.
_LENGTHS: Final[Mapping[str, int]] = {"namespace": 255, "requested_by": 255, "reason": 500}


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues in use, and the pauses of their namespaces by name."""

    queues: list[QueueStatus]
    pauses: dict[str, NamespacePause]


class Namespaces:
    """Pauses namespaces, resumes them, and tells how their queues are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pause(self, namespace: str, *, requested_by: str, reason: str) -> Paused:
        """Stop workers from claiming steps of a namespace; one that is paused already stays as it is.

        What they have claimed is finished, tasks can be created, and what becomes ready waits in its queue.

        Raises:
            InvalidArgumentError: A text is missing or too long.
            NamespaceNotFoundError: There is no such namespace.
        """
        said = {"namespace": namespace, "requested_by": requested_by, "reason": reason}
        check_texts(_LENGTHS, said, required=True)
        paused = await pause_namespace(self._database, namespace, requested_by=requested_by, reason=reason)
        if paused is None:
            raise NamespaceNotFoundError(namespace)
        if paused.changed:
            log.warning("namespace_paused", **said)
        return paused

    async def resume(self, namespace: str, *, requested_by: str) -> bool:
        """Let workers claim steps of a namespace again; return whether it was paused.

        Raises:
            InvalidArgumentError: A text is missing or too long.
            NamespaceNotFoundError: There is no such namespace.
        """
        said = {"namespace": namespace, "requested_by": requested_by}
        check_texts(_LENGTHS, said, required=True)
        resumed = await resume_namespace(self._database, namespace)
        if not resumed.known:
            raise NamespaceNotFoundError(namespace)
        if resumed.changed:
            log.warning("namespace_resumed", **said)
        return resumed.changed

    async def queues(self, namespace: str | None = None) -> Queues:
        """Return the queues, those of orchestration included, or only those of a namespace."""
        if namespace is not None:
            check_texts(_LENGTHS, {"namespace": namespace})
        async with self._database.snapshot() as snapshot:
            reader = QueueReader(snapshot)
            pauses = {pause.namespace: pause for pause in await reader.pauses()}
            return Queues(await reader.queues(namespace), pauses)
