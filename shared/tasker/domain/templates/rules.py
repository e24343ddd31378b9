"""Rules about the document as a whole, checked on whatever of it is readable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tasker.domain.json_schema import schema_problems
from tasker.domain.templates.document import StepType
from tasker.domain.templates.findings import Code, Findings, Path, Severity, path_text
from tasker.domain.templates.graph import Graph, Node, named_worker

#: The name that means every step in an environment's overrides.
ALL_STEPS: Final = "ALL"

#: As text, since the document may have anything as a type.
_WITHOUT_BATCHES: Final = [
    kind.value for kind in StepType if kind not in (StepType.BATCHABLE, StepType.BATCH_WORKER)
]

_Part = Mapping[str, Any]


def parts_of(value: object) -> Iterator[tuple[int, _Part]]:
    """Yield the objects in a list, with their index; nothing if it is no list."""
    if isinstance(value, list):
        yield from ((index, part) for index, part in enumerate(value) if isinstance(part, Mapping))


def outline(content: _Part, findings: Findings) -> Graph:
    """Return the graph of everything readable, noting names and dependencies that do not fit.

    Duplicate, missing and own names are left out of the edges, so that the remaining rules still apply.
    """
    steps: dict[str, tuple[int, _Part]] = {}
    for index, step in parts_of(content.get("steps")):
        name = step.get("name")
        if not isinstance(name, str):
            continue
        if name in steps:
            findings.add(
                Code.DUPLICATE_STEP_NAME, ("steps", index, "name"), f"step name '{name}' is used twice"
            )
            continue
        steps[name] = (index, step)
    return Graph(
        {
            name: Node(
                name, _type_of(step), tuple(_parents(name, index, step, steps, findings)), _worker_of(step)
            )
            for name, (index, step) in steps.items()
        }
    )


def _parents(
    name: str, index: int, step: _Part, steps: Mapping[str, object], findings: Findings
) -> Iterator[str]:
    dependencies = step.get("dependencies")
    seen: set[str] = set()
    for position, parent in enumerate(dependencies if isinstance(dependencies, list) else ()):
        path: Path = ("steps", index, "dependencies", position)
        if not isinstance(parent, str):
            continue
        if parent in seen:
            findings.add(Code.DUPLICATE_DEPENDENCY, path, f"step '{name}' depends on '{parent}' twice")
        elif parent == name:
            findings.add(Code.SELF_DEPENDENCY, path, f"step '{name}' depends on itself")
        elif parent not in steps:
            findings.add(Code.MISSING_DEP_REF, path, f"step '{name}' depends on unknown step '{parent}'")
        else:
            yield parent
        seen.add(parent)


def _type_of(step: _Part) -> StepType:
    declared = step.get("type")
    return (
        StepType(declared) if isinstance(declared, str) and declared in set(StepType) else StepType.STANDARD
    )


def _worker_of(step: _Part) -> str | None:
    config, handler = step.get("batch_config"), step.get("handler")
    return named_worker(
        config.get("worker_template") if isinstance(config, Mapping) else None,
        handler.get("initialization") if isinstance(handler, Mapping) else None,
    )


def check_graph(graph: Graph, positions: Mapping[str, int], findings: Findings) -> None:
    """Note cycles and steps that hang in the air."""
    for cycle in graph.cycles():
        findings.add(
            Code.CYCLE_DETECTED, ("steps", positions[cycle[0]]), f"dependency cycle: {' -> '.join(cycle)}"
        )
    if len(graph.nodes) == 1:
        return
    for node in graph.nodes.values():
        if not node.parents and not graph.children[node.name]:
            message = f"step '{node.name}' has no dependency and no dependant"
            findings.add(Code.ORPHAN_STEP, ("steps", positions[node.name]), message)


def check_retry(content: _Part, findings: Findings) -> None:
    """Note attempts that will never be made, and suspiciously many of them."""
    for index, step in parts_of(content.get("steps")):
        retry = step.get("retry")
        attempts = retry.get("max_attempts") if isinstance(retry, Mapping) else None
        if not isinstance(retry, Mapping) or not isinstance(attempts, int):
            continue
        path: Path = ("steps", index, "retry", "max_attempts")
        if attempts > 1 and retry.get("retryable") is False:
            message = f"{path_text(path)}: {attempts} means 1, since retryable is false"
            findings.add(Code.ATTEMPTS_UNUSED, path, message)
        if attempts > 100:
            message = f"{path_text(path)}: {attempts} is more than 100; is it meant?"
            findings.add(Code.OUT_OF_RANGE, path, message, severity=Severity.WARNING)


def check_batch_configs(content: _Part, findings: Findings) -> None:
    """Note what is said about batches of a step that has none."""
    for index, step in parts_of(content.get("steps")):
        declared = step.get("type", StepType.STANDARD)
        if step.get("batch_config") is None or declared not in _WITHOUT_BATCHES:
            continue
        path: Path = ("steps", index, "batch_config")
        remedy = "it belongs to one of type batchable or batch_worker"
        message = f"{path_text(path)}: has no effect in a {declared} step; {remedy}"
        findings.add(Code.BATCH_CONFIG_UNUSED, path, message)


def check_events(content: _Part, findings: Findings) -> None:
    """Note events declared twice in one place, and bad schemas of events."""
    places: list[tuple[Path, object]] = [(("domain_events",), content.get("domain_events"))]
    for index, step in parts_of(content.get("steps")):
        places.append((("steps", index, "publishes_events"), step.get("publishes_events")))
    for path, events in places:
        seen: set[str] = set()
        for position, event in parts_of(events):
            name = event.get("name")
            if isinstance(name, str) and name in seen:
                message = f"event '{name}' is declared twice; the last declaration is used"
                findings.add(Code.DUPLICATE_EVENT_NAME, (*path, position, "name"), message)
            if isinstance(name, str):
                seen.add(name)
            check_schema(event.get("schema"), (*path, position, "schema"), findings)


def check_schemas(content: _Part, findings: Findings) -> None:
    """Note bad schemas of the context and of results, and steps whose result has none or is no object."""
    check_schema(content.get("input_schema"), ("input_schema",), findings)
    for index, step in parts_of(content.get("steps")):
        path: Path = ("steps", index, "result_schema")
        schema = step.get("result_schema")
        if schema is None:
            findings.add(
                Code.NO_RESULT_SCHEMA, ("steps", index), f"step '{step.get('name')}' has no result_schema"
            )
            continue
        check_schema(schema, path, findings)
        if isinstance(schema, Mapping) and schema.get("type", "object") != "object":
            message = f"{path_text(path)}: type is {schema['type']}, but the result of a step is an object"
            findings.add(Code.SCHEMA_NOT_OBJECT, path, message)


def check_schema(schema: object, path: Path, findings: Findings) -> None:
    """Note everything wrong with one JSON Schema; anything but an object is the model's business."""
    for problem in schema_problems(schema) if isinstance(schema, dict) else ():
        findings.add(Code.INVALID_JSON_SCHEMA, path, f"{path_text(path)}: {problem}")


def check_overrides(content: _Part, graph: Graph, findings: Findings) -> None:
    """Note overrides of steps that do not exist."""
    environments = content.get("environments")
    for environment, body in environments.items() if isinstance(environments, Mapping) else ():
        for index, override in parts_of(body.get("steps") if isinstance(body, Mapping) else None):
            name = override.get("name")
            if isinstance(name, str) and name != ALL_STEPS and name not in graph.nodes:
                message = f"environment '{environment}' overrides unknown step '{name}'"
                path: Path = ("environments", environment, "steps", index, "name")
                findings.add(Code.UNKNOWN_OVERRIDE_STEP, path, message)
