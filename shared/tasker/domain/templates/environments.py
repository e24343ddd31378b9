"""What an environment changes of a template."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from tasker.domain.templates.document import RetryOverride, RetryRules, Step, StepOverride, Template
from tasker.domain.templates.findings import Path
from tasker.domain.templates.rules import ALL_STEPS


def resolve(template: Template, environment: str | None) -> Template:
    """Return the template as it runs in an environment; an environment it does not mention changes nothing.

    Overrides apply in list order. `initialization` merges shallowly and the override wins,
    `timeout_seconds` replaces, `retry` merges key by key.

    Raises:
        ValueError: An override and the step do not fit together; validation has said so before.
    """
    overrides = template.environments.get(environment or "")
    if overrides is None or not overrides.steps:
        return template
    steps = list(template.steps)
    for override in overrides.steps:
        for index, step in enumerate(steps):
            if override.name in (ALL_STEPS, step.name):
                steps[index] = _overridden(step, override)
    return template.model_copy(update={"steps": steps})


def override_problems(template: Template) -> Iterator[tuple[Path, str]]:
    """Yield the overrides whose retry rules do not fit those of a step they apply to."""
    for environment, overrides in template.environments.items():
        steps = {step.name: step for step in template.steps}
        for index, override in enumerate(overrides.steps):
            for name, step in steps.items():
                if override.name not in (ALL_STEPS, name):
                    continue
                try:
                    steps[name] = _overridden(step, override)
                except ValidationError as error:
                    path: Path = ("environments", environment, "steps", index, "retry")
                    yield path, f"for step '{name}', {error.errors()[0]['msg']}"
                    break


def _overridden(step: Step, override: StepOverride) -> Step:
    handler = step.handler
    if override.handler.initialization:
        merged = {**handler.initialization, **override.handler.initialization}
        handler = handler.model_copy(update={"initialization": merged})
    timeout = override.timeout_seconds
    return step.model_copy(
        update={
            "handler": handler,
            "retry": _merged_retry(step.retry, override.retry),
            "timeout_seconds": step.timeout_seconds if timeout is None else timeout,
        }
    )


def _merged_retry(retry: RetryRules, override: RetryOverride) -> RetryRules:
    changes = override.model_dump(exclude_none=True)
    if not changes:
        return retry
    merged = retry.model_dump() | changes
    if "max_backoff_ms" not in changes:
        # An environment that raises the base alone takes the cap along, as a step does.
        merged["max_backoff_ms"] = max(retry.max_backoff_ms, merged["backoff_base_ms"])
    return RetryRules.model_validate(merged)
