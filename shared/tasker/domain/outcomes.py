"""What decision and batchable steps return besides their result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasker.domain.results import ExecutionMetadata, StepFailure
from tasker.domain.templates.document import BatchConfig, FailureStrategy
from tasker.domain.templates.expansion import OutcomeRefusedError

#: The most batches of one plan.
MAX_BATCHES: Final = 1000

_BATCH_ID: Final = re.compile(r"[0-9]{3,18}", re.ASCII)
_CURSOR_KEYS: Final = frozenset({"batch_id", "start_cursor", "end_cursor", "batch_size"})
_OBSOLETE_PREFIX: Final = "batch_"

#: The one instance of a batch that has nothing to do.
EMPTY_BATCH_ID: Final = "000"


@dataclass(frozen=True, slots=True)
class Cursor:
    """One part of a batch: from `start` to before `end`, whatever those are to the handler.

    Attributes:
        batch_id: Its number, 3 to 18 digits.
        start, end: Where it begins and where it ends.
        batch_size: How many items it has; 0 when that is not known.
        more: What else the splitting handler tells the one that does this part.
    """

    batch_id: str
    start: Any
    end: Any
    batch_size: int
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the shape that the worker's handler reads."""
        return {
            **self.more,
            "batch_id": self.batch_id,
            "start_cursor": self.start,
            "end_cursor": self.end,
            "batch_size": self.batch_size,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """The branches that a decision takes.

    Attributes:
        names: The steps it names, each once; none when it takes no branch.
        warnings: What was tolerated.
    """

    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batches:
    """How a batchable step splits its work.

    Attributes:
        worker: The batch worker's template step, None when the outcome does not name it.
        cursors: One an instance; none means that there is nothing to do.
        warnings: What was tolerated.
    """

    worker: str | None
    cursors: tuple[Cursor, ...]
    warnings: tuple[str, ...] = ()


def chosen_steps(decision: str, result: object) -> Choice:
    """Return the branches that a decision's result takes.

    Raises:
        OutcomeRefusedError: There is no outcome, or it cannot be read.
    """
    match _field(result, "decision_point_outcome"):
        case None:
            raise _unreadable("OUTCOME_MISSING", decision, "its result lacks it")
        case {"type": "no_branches"}:
            return Choice()
        case {"type": "create_steps", "step_names": []}:
            return Choice(warnings=("create_steps names no step: no_branches says so",))
        case {"type": "create_steps", "step_names": [*names]} if all(isinstance(n, str) and n for n in names):
            return Choice(tuple(dict.fromkeys(names)))
        case {"type": "create_steps"}:
            raise _unreadable("OUTCOME_MALFORMED", decision, "step_names must be a list of names of steps")
        case _:
            raise _unreadable("OUTCOME_MALFORMED", decision, "its type must be create_steps or no_branches")


def planned_batches(batchable: str, result: object, *, max_batches: int) -> Batches:
    """Return how a batchable step's result splits its work.

    Raises:
        OutcomeRefusedError: There is no outcome, it cannot be read, or its parts do not add up.
    """
    match _field(result, "batch_processing_outcome"):
        case None:
            raise OutcomeRefusedError(
                "OUTCOME_MISSING",
                f"batchable '{batchable}' returned no valid batch_processing_outcome: its result lacks it",
            )
        case {"type": "no_batches"} as outcome:
            return Batches(_worker(batchable, outcome), ())
        case {"type": "create_batches"} as outcome:
            return _batches(batchable, outcome, max_batches)
        case _:
            raise _refused(batchable, "its type must be create_batches or no_batches")


def instance_inputs(
    worker: str, initialization: Mapping[str, Any], config: BatchConfig, cursor: Cursor | None
) -> dict[str, Any]:
    """Return the inputs of an instance of a batch; without a cursor those of one that has nothing to do."""
    part = cursor or Cursor(EMPTY_BATCH_ID, 0, 0, 0)
    return {
        **initialization,
        "cursor": part.to_json(),
        "batch_metadata": {
            "cursor_field": config.cursor_field,
            "failure_strategy": config.failure_strategy.value,
        },
        "is_no_op": cursor is None,
        "__template_step_name": worker,
    }


def tolerated_failure(
    inputs: object, checkpoint: object, failure: StepFailure | None, metadata: ExecutionMetadata
) -> dict[str, Any] | None:
    """Return the result of an instance that failed for good but shall not stop its task; None if it shall.

    Only batches that continue on failure tolerate it; whoever joins their results decides.

    Args:
        inputs: What the instance was given.
        checkpoint: How far it came, if it ever said so.
        failure: Why it failed.
        metadata: The metadata of the failed attempt.
    """
    strategy = _field(_field(inputs, "batch_metadata"), "failure_strategy")
    if strategy != FailureStrategy.CONTINUE_ON_FAILURE:
        return None
    reached = (
        _field(checkpoint, "items_processed"),
        metadata.context.get("processed_before_failure"),
        failure.context.get("processed_before_failure") if failure else None,
    )
    return {
        "batch_failed": True,
        "error": failure.to_json() if failure else None,
        "processed_count": next((count for count in reached if isinstance(count, int)), 0),
        "batch_id": _field(_field(inputs, "cursor"), "batch_id"),
    }


def _unreadable(code: str, decision: str, problem: str) -> OutcomeRefusedError:
    return OutcomeRefusedError(
        code, f"decision '{decision}' returned no valid decision_point_outcome: {problem}"
    )


def _batches(batchable: str, outcome: Mapping[str, Any], max_batches: int) -> Batches:
    parts, count = outcome.get("cursor_configs"), _whole(outcome.get("worker_count"))
    if not isinstance(parts, list) or count is None:
        raise _refused(batchable, "cursor_configs must be a list and worker_count a whole number")
    if count < 1 or count != len(parts):
        raise _refused(batchable, f"worker_count is {count}, but there are {len(parts)} cursor_configs")
    if count > max_batches:
        raise _refused(batchable, f"{count} batches requested, maximum {max_batches}")
    warnings: list[str] = []
    cursors = tuple(_cursor(batchable, part, warnings) for part in parts)
    ids = [cursor.batch_id for cursor in cursors]
    if repeated := next((batch_id for batch_id in ids if ids.count(batch_id) > 1), None):
        raise _refused(batchable, f"batch_id '{repeated}' occurs twice")
    return Batches(_worker(batchable, outcome), cursors, tuple(warnings))


def _worker(batchable: str, outcome: Mapping[str, Any]) -> str | None:
    worker = outcome.get("worker_template_name")
    if worker is not None and not isinstance(worker, str):
        raise _refused(batchable, "worker_template_name must be a text")
    return worker or None


def _cursor(batchable: str, part: object, warnings: list[str]) -> Cursor:
    if not isinstance(part, Mapping):
        raise _refused(batchable, "each of cursor_configs must be an object")
    batch_id, size = part.get("batch_id"), _whole(part.get("batch_size", 0))
    if isinstance(batch_id, str) and batch_id.startswith(_OBSOLETE_PREFIX):
        warnings.append(f"batch_id '{batch_id}': leave '{_OBSOLETE_PREFIX}' out")
        batch_id = batch_id.removeprefix(_OBSOLETE_PREFIX)
    if not isinstance(batch_id, str) or not _BATCH_ID.fullmatch(batch_id):
        raise _refused(batchable, f"batch_id {batch_id!r} must be a text of 3 to 18 digits")
    if size is None or size < 0:
        raise _refused(batchable, f"batch_size of batch '{batch_id}' must be a whole number from 0")
    missing = [key for key in ("start_cursor", "end_cursor") if key not in part]
    if missing:
        raise _refused(batchable, f"batch '{batch_id}' lacks {' and '.join(missing)}")
    more = {key: value for key, value in part.items() if key not in _CURSOR_KEYS}
    return Cursor(batch_id, part["start_cursor"], part["end_cursor"], size, more)


def _refused(batchable: str, problem: str) -> OutcomeRefusedError:
    return OutcomeRefusedError("OUTCOME_MALFORMED", f"outcome of batchable '{batchable}': {problem}")


def _field(result: object, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else None


def _whole(value: object) -> int | None:
    """Return a whole number; one that passed through a gRPC Struct came as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
