"""Putting together what the instances of a batch worker returned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasker.domain.errors import FieldViolation
from tasker.worker.handlers.errors import StepValidationError
from tasker.worker.handlers.injection import Injection, violations_of
from tasker.worker.handlers.markers import Source

#: How many errors of instances the totals, and messages, keep.
MAX_ERRORS: Final = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchAggregationScenario:
    """What an aggregator finds: results of instances, or an analyzer that needed none.

    Attributes:
        batchable_result: What the analyzer returned.
        batch_results: What each instance returned, by step name in the order of the batches; those without a result
            are left out, and so is the placeholder of an empty batch.
        is_no_batches: Whether the analyzer said that there is nothing to do.
    """

    batchable_result: Mapping[str, Any]
    batch_results: Mapping[str, Any]
    is_no_batches: bool

    @property
    def worker_count(self) -> int:
        """How many instances have a result."""
        return len(self.batch_results)

    @classmethod
    def detect(
        cls, dependency_results: Mapping[str, Any], batchable_step_name: str, batch_worker_prefix: str
    ) -> BatchAggregationScenario:
        """Look at the results an aggregator was given.

        Args:
            dependency_results: By step name.
            batchable_step_name: The analyzer.
            batch_worker_prefix: How the names of the instances begin: the `batch_worker` step's name, with or without
                the underscore behind it.

        Raises:
            ValueError: The analyzer has no result, or there should be instances and none has one; the template's
                dependencies are wrong then.
        """
        batchable = dependency_results.get(batchable_step_name)
        if not isinstance(batchable, Mapping):
            raise ValueError(
                f"workflow configuration: there is no result of the batchable step {batchable_step_name!r}; "
                f"known: {', '.join(sorted(dependency_results)) or 'none'}"
            )
        outcome = batchable.get("batch_processing_outcome")
        if isinstance(outcome, Mapping) and outcome.get("type") == "no_batches":
            return cls(batchable, {}, True)
        found = _instances(dependency_results, batch_worker_prefix)
        if not found:
            raise ValueError(
                f"workflow configuration: no step named {batch_worker_prefix.removesuffix('_')}_<digits> has a "
                f"result; known: {', '.join(sorted(dependency_results))}"
            )
        return cls(batchable, found, False)

    @property
    def failed_batches(self) -> dict[str, Any]:
        """What is left of instances that failed for good, where the template's batch continues on failure.

        Each has `batch_failed`, `batch_id`, `processed_count` and `error`.
        """
        return {name: result for name, result in self.batch_results.items() if _has_failed(result)}

    def results_as(self, kind: type[T]) -> list[T]:
        """Return the results of the instances that succeeded as models, in the order of the batches.

        Each is read as a parameter marked `Dep` would be.

        Raises:
            StepValidationError: Some do not fit; names every field.
        """
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        models: list[T] = []
        violations: list[FieldViolation] = []
        for name, result in self.batch_results.items():
            if _has_failed(result):
                continue
            instance = Injection(name, Source.DEPENDENCY, name, adapter=adapter)
            try:
                models.append(instance.validate(result))
            except ValidationError as exc:
                violations.extend(violations_of(instance, exc))
        if violations:
            raise _misfit(violations)
        return models


def aggregate_worker_results(results: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Add up the counts of instances that returned `BatchWorkerOutcome`s, or objects like them.

    None is left out. An instance that failed for good, in a batch that continues on failure, adds its error.

    Returns:
        `total_processed`, `total_succeeded`, `total_failed`, `total_skipped`, `batch_count`, `success_rate` (0 to 1;
        0 where nothing was processed), `errors` (the first hundred) and `error_count`.
    """
    present = [result for result in results if result is not None]
    total = {
        f"total_{name}": sum(int(result.get(f"items_{name}") or 0) for result in present)
        for name in ("processed", "succeeded", "failed", "skipped")
    }
    errors = [error for result in present for error in _errors(result)]
    processed = total["total_processed"]
    return total | {
        "batch_count": len(present),
        "success_rate": total["total_succeeded"] / processed if processed else 0.0,
        "errors": errors[:MAX_ERRORS],
        "error_count": len(errors),
    }


def _misfit(violations: Sequence[FieldViolation]) -> StepValidationError:
    shown = violations[:MAX_ERRORS]
    return StepValidationError(
        f"results of the batch do not fit: {'; '.join(map(str, shown))}",
        context={"fields": [{"field": v.field, "description": v.description} for v in shown]},
    )


def _has_failed(result: object) -> bool:
    return isinstance(result, Mapping) and result.get("batch_failed") is True


def _errors(result: Mapping[str, Any]) -> list[Any]:
    return [result.get("error")] if _has_failed(result) else list(result.get("errors") or ())


def _instances(results: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the results of a worker's instances, ordered by their number: `_1000` comes after `_999`."""
    instance = re.compile(f"{re.escape(prefix.removesuffix('_'))}_([0-9]+)")
    numbered = [
        (int(match[1]), name)
        for name, result in results.items()
        if result is not None and (match := instance.fullmatch(name))
    ]
    return {name: results[name] for _, name in sorted(numbered)}
