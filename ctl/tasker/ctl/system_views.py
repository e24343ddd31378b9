"""How figures and settings of a service look to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from tasker.client import Bottlenecks, Metrics, ServiceConfig
from tasker.ctl import tables
from tasker.ctl.output import shown


def metrics_details(metrics: Metrics) -> RenderableType:
    """Return what became of tasks."""
    partial = " (there are more: these are the newest ones)" if metrics.is_partial else ""
    return tables.facts(
        [
            ("since", tables.local(metrics.since)),
            ("until", tables.local(metrics.at)),
            ("tasks", f"{metrics.total:,}{partial}"),
            ("active", f"{metrics.active:,}"),
            ("completed", f"{metrics.completed:,} ({metrics.completion_rate:.1%})"),
            ("failed", f"{metrics.failed:,} ({metrics.error_rate:.1%})"),
            ("a task takes", tables.duration(metrics.average_task_seconds)),
            ("a step takes", tables.duration(metrics.average_step_seconds)),
            ("an hour", f"{metrics.tasks_per_hour:,} tasks, {metrics.steps_per_hour:,} steps"),
            ("health", f"{metrics.health_score:.0%}"),
        ]
    )


def bottleneck_details(found: Bottlenecks) -> RenderableType:
    """Return what holds work up."""
    numbers = ("MEAN", "LONGEST", "RUNS", "FAILED")
    steps = tables.table("STEP", "TEMPLATE", *numbers, right=numbers)
    for step in found.steps:
        steps.add_row(
            shown(step.step),
            shown(f"{step.namespace}/{step.template}:{step.version}"),
            tables.duration(step.average_seconds),
            tables.duration(step.longest_seconds),
            f"{step.executions:,}",
            f"{step.failures:,}",
        )
    tasks = tables.table("TEMPLATE", *numbers, right=numbers)
    for task in found.tasks:
        tasks.add_row(
            shown(f"{task.namespace}/{task.template}:{task.version}"),
            tables.duration(task.average_seconds),
            tables.duration(task.longest_seconds),
            f"{task.executions:,}",
            f"{task.failures:,}",
        )
    facts: list[tuple[str, object]] = [
        ("tasks", _counts(found.task_states)),
        ("steps", _counts(found.step_states)),
        ("connections", f"{found.pool_utilization:.0%} in use"),
        *(("advice", advice) for advice in found.recommendations),
    ]
    parts: list[RenderableType] = [tables.facts(facts)]
    for made in (steps, tasks):
        if made.row_count:
            parts += ["", made]
    return Group(*parts)


def config_details(config: ServiceConfig) -> RenderableType:
    """Return the settings of a service."""
    auth = config.auth
    facts: list[tuple[str, object]] = [
        ("version", config.version),
        ("environment", config.environment),
        ("work is noticed", config.deployment_mode),
        ("messages", config.messaging),
        ("queues", ", ".join(config.queues)),
        ("connections", f"{config.max_connections} at most"),
        ("auth", "on" if auth.enabled else "off"),
    ]
    if auth.enabled:
        facts += [
            ("tokens", f"{auth.verification_method} {', '.join(auth.algorithms)}"),
            ("issuer", auth.issuer),
            ("audience", auth.audience),
            ("API keys", f"{auth.api_keys} in {auth.api_key_header}"),
            ("unknown rights", "refused" if auth.strict else "left out of account"),
        ]
    return tables.facts(facts)


def _counts(states: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.items() if count)
