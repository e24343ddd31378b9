"""Plain successes: complete their steps, advance their tasks."""

from __future__ import annotations

from typing import Final

from tasker.messaging.pgmq import PgmqOrchestrationBroker
from tasker.messaging.poison import PoisonSearch
from tasker.messaging.queues import RESULTS_QUEUE
from tasker.messaging.wakeup import POLL_SECONDS
from tasker.persistence.failures import is_transient

#: How long a busy task's message is put back; look again then.
BUSY_SECONDS: Final = 0.05


class ResultLoop:
    """Processes submitted successes in groups, wholly inside the database."""

    name = "results"

    def __init__(
        self, broker: PgmqOrchestrationBroker, *, group_size: int = 100, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._broker = broker
        self._group_size = group_size
        self._poll_seconds = poll_seconds
        self._poison = PoisonSearch(broker)

    async def tick(self) -> float:
        """Process one group."""
        try:
            processed = await self._broker.process_results(self._group_size)
        except Exception as error:
            if is_transient(error):
                raise
            await self._poison.run(
                RESULTS_QUEUE, self._group_size, lambda msg_id: self._broker.process_results(1, only=msg_id)
            )
            return 0
        if processed.handled + processed.delayed >= self._group_size:
            return 0
        return BUSY_SECONDS if processed.delayed else self._poll_seconds
