"""Results that need judgement: failures, and the outcomes of decisions and batches."""

from __future__ import annotations

from tasker.domain.templates.document import StepType
from tasker.messaging.pgmq import PgmqOrchestrationBroker
from tasker.messaging.poison import PoisonSearch
from tasker.messaging.queues import JUDGEMENTS_QUEUE
from tasker.messaging.wakeup import POLL_SECONDS
from tasker.orchestration.engine.expansion import Expander, ExpandingStep
from tasker.orchestration.engine.judge import Judge
from tasker.orchestration.loops.results import BUSY_SECONDS
from tasker.persistence.failures import is_transient, without_conflict
from tasker.persistence.operations.judge import Judgements, StepVerdict, SubmittedStep, apply_verdicts
from tasker.persistence.queries import Transaction
from tasker.telemetry.logs import get_logger

log = get_logger(__name__)


class JudgementLoop:
    """Takes results, judges them with pure functions and applies the verdicts, in one transaction a group.

    What decisions and batches lead to is added in the same transaction.
    """

    name = "judgements"

    def __init__(
        self,
        broker: PgmqOrchestrationBroker,
        judge: Judge,
        expander: Expander,
        *,
        group_size: int = 50,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._broker = broker
        self._judge = judge
        self._expander = expander
        self._group_size = group_size
        self._poll_seconds = poll_seconds
        self._poison = PoisonSearch(broker)

    async def tick(self) -> float:
        """Judge one group."""
        try:
            handled, delayed = await without_conflict(lambda: self._judge_group(self._group_size))
        except Exception as error:
            if is_transient(error):
                raise
            await self._poison.run(
                JUDGEMENTS_QUEUE, self._group_size, lambda msg_id: self._judge_group(1, only=msg_id)
            )
            return 0
        if handled + delayed >= self._group_size:
            return 0
        return BUSY_SECONDS if delayed else self._poll_seconds

    async def _judge_group(self, limit: int, *, only: int | None = None) -> tuple[int, int]:
        verdicts: list[StepVerdict] = []
        async with self._broker.judgements(limit, only=only) as (transaction, judgements):
            if judgements.steps:
                verdicts = await self._verdicts(transaction, judgements)
                await apply_verdicts(transaction, verdicts)
        for step, verdict in zip(judgements.steps, verdicts, strict=True):
            _tell(step, verdict)
        return len(judgements.steps), judgements.delayed

    async def _verdicts(self, transaction: Transaction, judgements: Judgements) -> list[StepVerdict]:
        """Return a verdict for each step, in their order."""
        judged = [(step, self._judge.judge(step)) for step in judgements.steps]
        refused = await self._expander.expand(
            transaction,
            [
                ExpandingStep(
                    step.task_uuid, step.step_uuid, step.name, StepType(step.step_type), step.result
                )
                for step, verdict in judged
                if verdict.verdict == "complete" and StepType(step.step_type).adds_steps
            ],
        )
        return [
            self._judge.refuse(step, refused[step.step_uuid]) if step.step_uuid in refused else verdict
            for step, verdict in judged
        ]


def _tell(step: SubmittedStep, verdict: StepVerdict) -> None:
    """Log what becomes of a step that failed."""
    if verdict.verdict not in ("retry", "error"):
        return
    error = (verdict.replacement or {}).get("error") or step.error or {}
    facts = {
        "task_uuid": str(step.task_uuid),
        "step_uuid": str(step.step_uuid),
        "step_name": step.name,
        "attempt": step.attempts,
        "max_attempts": step.max_attempts,
        "error_type": error.get("error_type"),
        "error": error.get("message"),
    }
    if verdict.verdict == "retry":
        log.info("step_retry_scheduled", retry_in_seconds=round(verdict.delay_seconds or 0, 3), **facts)
    else:
        log.warning("step_failed_for_good", reason=verdict.reason, **facts)
