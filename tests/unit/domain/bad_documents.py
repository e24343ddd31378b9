"""One minimal template for each thing that can be wrong with a key or its value."""

from __future__ import annotations

from typing import Any

from tasker.domain.templates.findings import Code, Severity
from tests.unit.domain.examples import a_step, a_template, batch_worker, batchable, convergence, decision

E, W, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


#: Code, severity, document, path, message.
BAD_DOCUMENTS: list[tuple[Code, Severity, Any, str, str]] = [
    (Code.MISSING_FIELD, E, without(a_template(), "name"), "name", "name: required"),
    (Code.MISSING_FIELD, E, without(a_template(), "steps"), "steps", "steps: required"),
    (
        Code.MISSING_FIELD,
        E,
        a_template({"name": "a", "result_schema": {}}),
        "steps[0].handler",
        "steps[0].handler: required",
    ),
    (
        Code.MISSING_FIELD,
        E,
        a_template(
            batchable("a", batch_config={"batch_size": 10}), batch_worker("w", "a"), convergence("c", "w")
        ),
        "steps[0].batch_config.worker_template",
        "steps[0].batch_config.worker_template: required",
    ),
    (Code.WRONG_TYPE, E, [1], "", "document: expected map, got list"),
    (Code.WRONG_TYPE, E, a_template(steps={"a": 1}), "steps", "steps: expected list, got map"),
    (Code.WRONG_TYPE, E, a_template(steps=["a"]), "steps[0]", "steps[0]: expected map, got str"),
    (
        Code.WRONG_TYPE,
        E,
        a_template(a_step("a", timeout_seconds="30")),
        "steps[0].timeout_seconds",
        "steps[0].timeout_seconds: expected int, got str",
    ),
    (
        Code.WRONG_TYPE,
        E,
        a_template(a_step("a", retry={"retryable": "no"})),
        "steps[0].retry.retryable",
        "steps[0].retry.retryable: expected bool, got str",
    ),
    (
        Code.WRONG_TYPE,
        E,
        a_template(a_step("a", type=3)),
        "steps[0].type",
        "steps[0].type: expected str, got int",
    ),
    (
        Code.WRONG_TYPE,
        E,
        a_template(default_context={"n": float("nan")}),
        "default_context.n",
        "default_context.n: expected a JSON value, got nan",
    ),
    (
        Code.WRONG_TYPE,
        E,
        a_template(default_context={True: 1}),
        "default_context",
        "default_context: expected str as key, got bool (True); quote it",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(a_step("a", timeout_seconds=3601)),
        "steps[0].timeout_seconds",
        "steps[0].timeout_seconds: 3601 not in 1..3600",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(a_step("a", retry={"max_attempts": 0})),
        "steps[0].retry.max_attempts",
        "steps[0].retry.max_attempts: 0 not in 1..2147483647",
    ),
    (
        Code.OUT_OF_RANGE,
        W,
        a_template(a_step("a", retry={"max_attempts": 101})),
        "steps[0].retry.max_attempts",
        "steps[0].retry.max_attempts: 101 is more than 100; is it meant?",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(a_step("a", retry={"backoff_base_ms": 5000, "max_backoff_ms": 4000})),
        "steps[0].retry",
        "steps[0].retry: max_backoff_ms 4000 not in 5000..3600000 (base..limit)",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(a_step("a", retry={"backoff": "cubic"})),
        "steps[0].retry.backoff",
        "steps[0].retry.backoff: 'cubic' not in none, linear, exponential, fibonacci",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(lifecycle={"max_duration_minutes": 43_201}),
        "lifecycle.max_duration_minutes",
        "lifecycle.max_duration_minutes: 43201 not in 1..43200",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(ttl="soon"),
        "ttl",
        "ttl: 'soon' is not a duration such as 90s, 45m, 12h, 7d or 1h30m",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(
            a_step("a", retry={"backoff_base_ms": 20_000}),
            environments={"test": {"steps": [{"name": "ALL", "retry": {"max_backoff_ms": 2000}}]}},
        ),
        "environments.test.steps[0].retry",
        "environments.test.steps[0].retry: for step 'a', "
        "max_backoff_ms 2000 not in 20000..3600000 (base..limit)",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(name="n" * 256),
        "name",
        "name: length 256 not in 1..255",
    ),
    (
        Code.OUT_OF_RANGE,
        E,
        a_template(default_context={"a": "\x00"}),
        "",
        "document: default_context.a holds a NUL character, which PostgreSQL cannot store",
    ),
    (Code.INVALID_NAME, E, a_template(name="Checkout"), "name", "'Checkout' must match ^[a-z][a-z0-9_]*$"),
    (Code.INVALID_NAME, E, a_template(name="x\n"), "name", "'x\n' must match ^[a-z][a-z0-9_]*$"),
    (
        Code.INVALID_NAME,
        E,
        a_template(namespace_name="9lives"),
        "namespace_name",
        "'9lives' must match ^[a-z_][a-z0-9_]*$",
    ),
    (
        Code.INVALID_NAME,
        E,
        a_template(a_step("price cart")),
        "steps[0].name",
        "'price cart' must match ^[a-z][a-z0-9_]*$",
    ),
    (Code.INVALID_VERSION, E, a_template(version="1.0"), "version", "version '1.0' must be x.y.z"),
    (
        Code.INVALID_VERSION,
        E,
        a_template(version="1.0.0-rc1"),
        "version",
        "version '1.0.0-rc1' must be x.y.z",
    ),
    (
        Code.INVALID_VERSION,
        E,
        a_template(version=1.0),
        "version",
        "version '1.0' must be x.y.z; it is a number here, quote it",
    ),
    (
        Code.NAMESPACE_TOO_LONG,
        E,
        a_template(namespace_name="n" * 30),
        "namespace_name",
        f"namespace '{'n' * 30}' has 30 characters, maximum 29",
    ),
    (Code.NO_STEPS, E, a_template(steps=[]), "steps", "steps: a template needs at least one step"),
    (
        Code.EMPTY_CALLABLE,
        E,
        a_template(a_step("a", handler={"callable": " "})),
        "steps[0].handler.callable",
        "steps[0].handler.callable: handler.callable is empty; name the handler that runs the step",
    ),
    (
        Code.INVALID_JSON_SCHEMA,
        E,
        a_template(input_schema={"type": "objekt"}),
        "input_schema",
        "input_schema: $.type: \"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword",
    ),
    (
        Code.INVALID_JSON_SCHEMA,
        E,
        a_template(input_schema={"properties": {"a": {"pattern": "("}}}),
        "input_schema",
        'input_schema: $.properties.a.pattern: "(" is no regular expression that runs in linear time; write it without '
        "look-around, back-references and repetitions of large repetitions",
    ),
    (
        Code.INVALID_JSON_SCHEMA,
        E,
        a_template(a_step("a", result_schema={"$ref": "#/definitions/ghost"})),
        "steps[0].result_schema",
        "steps[0].result_schema: $ref '#/definitions/ghost' leads nowhere",
    ),
    (
        Code.INVALID_JSON_SCHEMA,
        E,
        a_template(a_step("a", publishes_events=[{"name": "a.b", "schema": {"$ref": "http://x/y"}}])),
        "steps[0].publishes_events[0].schema",
        "steps[0].publishes_events[0].schema: $ref 'http://x/y' leads outside; "
        "move what it means into the schema's definitions",
    ),
    (
        Code.INVALID_EVENT,
        E,
        a_template(a_step("a", publishes_events=["order.shipped"])),
        "steps[0].publishes_events[0]",
        "steps[0].publishes_events[0]: 'order.shipped' must be a map with a name, not a bare string",
    ),
    *[
        (
            Code.INVALID_EVENT,
            E,
            a_template(domain_events=[{"name": name}]),
            "domain_events[0].name",
            f"event '{name}' must be dotted lower-case words such as order.shipped",
        )
        for name in ("shipped", ".shipped", "order.", "order..shipped", "Order.shipped")
    ],
    (
        Code.INVALID_EVENT,
        E,
        a_template(a_step("a", publishes_events=[{"name": "a.b", "condition": "sometimes"}])),
        "steps[0].publishes_events[0].condition",
        "steps[0].publishes_events[0].condition: 'sometimes' not in "
        "success, failure, retryable_failure, permanent_failure, always",
    ),
    (
        Code.UNKNOWN_OVERRIDE_STEP,
        E,
        a_template(environments={"test": {"steps": [{"name": "ghost"}]}}),
        "environments.test.steps[0].name",
        "environment 'test' overrides unknown step 'ghost'",
    ),
    (
        Code.DUPLICATE_EVENT_NAME,
        W,
        a_template(a_step("a", publishes_events=[{"name": "a.b"}, {"name": "a.b"}])),
        "steps[0].publishes_events[1].name",
        "event 'a.b' is declared twice; the last declaration is used",
    ),
    (
        Code.SCHEMA_NOT_OBJECT,
        W,
        a_template(a_step("a", result_schema={"type": "array"})),
        "steps[0].result_schema",
        "steps[0].result_schema: type is array, but the result of a step is an object",
    ),
    (
        Code.UNKNOWN_KEY,
        W,
        a_template(a_step("a", lifecycle={"max_retries": 3})),
        "steps[0].lifecycle",
        "steps[0].lifecycle: unknown key; it has no effect",
    ),
    (
        Code.UNKNOWN_KEY,
        W,
        a_template(a_step("a", timeout_second=3)),
        "steps[0].timeout_second",
        "steps[0].timeout_second: unknown key, did you mean timeout_seconds?",
    ),
    (
        Code.LEGACY_KEY,
        W,
        a_template(a_step("a", retry={"initial_delay": 5})),
        "steps[0].retry.initial_delay",
        "steps[0].retry.initial_delay: has no effect any more; remove it",
    ),
    (
        Code.LEGACY_KEY,
        W,
        a_template(a_step("a", retry={"backoff_base_ms": 50})),
        "steps[0].retry.backoff_base_ms",
        "steps[0].retry.backoff_base_ms: 50 is below 100 and raised to it",
    ),
    (
        Code.LEGACY_KEY,
        W,
        a_template(a_step("a", retry={"max_backoff_ms": 500})),
        "steps[0].retry.max_backoff_ms",
        "steps[0].retry.max_backoff_ms: 500 is below 1000 and raised to it",
    ),
    (
        Code.LEGACY_KEY,
        W,
        a_template(namespace="other"),
        "namespace",
        "namespace: ignored, since namespace_name is given too",
    ),
    (
        Code.NO_RESULT_SCHEMA,
        INFO,
        a_template({"name": "a", "handler": "shop.a"}),
        "steps[0]",
        "step 'a' has no result_schema",
    ),
    (
        Code.ATTEMPTS_UNUSED,
        W,
        a_template(a_step("a", retry={"retryable": False, "max_attempts": 3})),
        "steps[0].retry.max_attempts",
        "steps[0].retry.max_attempts: 3 means 1, since retryable is false",
    ),
    (
        Code.BATCH_CONFIG_UNUSED,
        W,
        a_template(a_step("a"), a_step("b", "a", batch_config={"worker_template": "c"})),
        "steps[1].batch_config",
        "steps[1].batch_config: has no effect in a standard step; it belongs to one of type batchable or batch_worker",
    ),
    (
        Code.BATCH_CONFIG_UNUSED,
        W,
        a_template(a_step("a"), decision("b", "a", batch_config={"worker_template": "c"}), a_step("c", "b")),
        "steps[1].batch_config",
        "steps[1].batch_config: has no effect in a decision step; it belongs to one of type batchable or batch_worker",
    ),
]
