"""The JSON Schema that editors read: what the model says, no more and no less."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft7Validator, meta

from tasker.domain.templates.editor_schema import as_text, template_schema
from tasker.domain.templates.findings import Code, Severity
from tasker.domain.templates.validation import validate
from tests.unit.domain.bad_documents import BAD_DOCUMENTS
from tests.unit.domain.bad_workflows import BAD_WORKFLOWS
from tests.unit.domain.examples import APPROVAL, CSV, a_step, a_template, batch_worker, batchable, convergence

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "docs" / "template.schema.json"
SCHEMA = template_schema()

#: What concerns one key alone, so that the schema sees it too.
OF_ONE_KEY = {
    Code.MISSING_FIELD,
    Code.WRONG_TYPE,
    Code.OUT_OF_RANGE,
    Code.INVALID_NAME,
    Code.INVALID_VERSION,
    Code.NAMESPACE_TOO_LONG,
    Code.NO_STEPS,
    Code.INVALID_EVENT,
    Code.UNKNOWN_KEY,
    Code.DUPLICATE_DEPENDENCY,
}
#: Of those codes, what needs more: two keys, a parser of durations, a look at the values.
BEYOND_SCHEMA = (
    "max_backoff_ms",
    "is it meant?",
    "is not a duration",
    "expected a JSON value",
    "quote it",
    "NUL character",
    "'x\n'",  # Python's `$` lets a newline pass, which that of editors does not
)
SEEN = [
    (code, document, message)
    for code, _, document, _, message in BAD_DOCUMENTS + BAD_WORKFLOWS
    if code in OF_ONE_KEY and not any(words in message for words in BEYOND_SCHEMA)
]
GOOD = [
    a_template(),
    APPROVAL,
    CSV,
    a_template(a_step("a", handler="shop.a", retry={"limit": 5, "initial_delay": 3}), namespace="shop"),
    a_template(
        a_step("a", handler={"callable": "shop.a", "initialization": {"any": [1, {"thing": None}]}}),
        a_step("b", step_type="decision_point", depends_on=["a"], timeout_seconds=None),
        a_step("c", "b"),
        environments={"test": {"steps": [{"name": "ALL", "retry": {"max_attempts": 1}}]}},
        lifecycle={"staleness_action": "none"},
        metadata={"author": "sam", "anything": 1},
    ),
    a_template(
        batchable("s", batch_config={"worker_template": "w", "failure_strategy": "isolate_failed"}),
        batch_worker("w", "s"),
        convergence("c", "w"),
    ),
]


def complaints(document: Any) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(document)]


def test_the_committed_schema_is_that_of_the_model() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == as_text(), "run `make schema`"


def test_it_is_a_json_schema() -> None:
    meta.validate(SCHEMA)
    assert json.loads(as_text()) == SCHEMA


@pytest.mark.parametrize("document", GOOD)
def test_what_is_valid_is_fine_with_it(document: dict[str, Any]) -> None:
    assert validate(document).valid
    assert complaints(document) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_fine_with_it(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        assert complaints(document) == []


@pytest.mark.parametrize(("code", "document", "message"), SEEN, ids=[message[:60] for *_, message in SEEN])
def test_it_sees_what_concerns_one_key(code: Code, document: Any, message: str) -> None:
    assert complaints(document) != []


def test_a_template_needs_a_namespace_under_either_name() -> None:
    document = a_template()
    del document["namespace_name"]
    assert complaints(document) != []
    assert complaints(document | {"namespace": "shop"}) == []


def test_every_key_says_what_it_means() -> None:
    parts = {"Template": SCHEMA} | SCHEMA["definitions"]
    for name, part in parts.items():
        for key, schema in part.get("properties", {}).items():
            assert schema.get("description") or schema.get("deprecationMessage"), f"{name}.{key}"


def test_old_keys_are_marked_and_no_others() -> None:
    def marked(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(marked, schema))
        if not isinstance(schema, dict):
            return set()
        here = {
            key
            for key, part in schema.get("properties", {}).items()
            if isinstance(part, dict) and "deprecationMessage" in part
        }
        return here.union(*map(marked, schema.values()))

    assert marked(SCHEMA) == {"limit", "initial_delay", "max_delay"}


@pytest.mark.parametrize("document", GOOD)
def test_no_unknown_key_passes_anywhere(document: dict[str, Any]) -> None:
    """An unknown key is put into every part in turn: the schema complains where the validation remarks."""

    def parts(value: Any) -> list[dict[str, Any]]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = [value] if isinstance(value, dict) else []
        return own + [part for item in inner for part in parts(item)]

    for index in range(len(parts(document))):
        spoilt = copy.deepcopy(document)
        parts(spoilt)[index]["surprise"] = 1
        found = validate(spoilt)
        remarked = any(f.code is Code.UNKNOWN_KEY for f in found.findings)
        if found.valid or remarked:
            assert bool(complaints(spoilt)) is remarked
    assert Severity.WARNING in {f.severity for f in validate(document | {"surprise": 1}).findings}
