"""YAML text in, documents with line numbers out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tasker.domain.templates.findings import Code
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.validation import validate
from tests.unit.domain.bad_documents import BAD_DOCUMENTS
from tests.unit.domain.bad_workflows import BAD_WORKFLOWS

TWO = """\
# Two templates in one file.
name: one
namespace: probes
version: 1.0.0
steps:
  - name: a
    handler: {callable: probes.A}
    retry: &retry
      max_attempts: 5
  - name: b
    handler: probes.B
    depends_on: [a,
      ghost]
    retry:
      <<: *retry
      backoff: linear
---
name: two
namespace_name: probes
version: 1.0.0
steps:
  - name: a
    handler: probes.A
    metadata: 2024-01-01
---
# nothing here
"""


def test_a_file_may_hold_several_documents() -> None:
    one, two = load_documents(TWO, "two.yaml")
    assert (one.source, two.source) == ("two.yaml", "two.yaml")
    first, second = validate(one), validate(two)
    assert second.valid
    assert second.template is not None
    assert second.template.loaded_from == "two.yaml"
    assert "loaded_from" not in second.template.to_json()
    assert [(f.line, f.message) for f in first.errors] == [(13, "step 'b' depends on unknown step 'ghost'")]
    assert [f.line for f in first.findings if f.code == "NO_RESULT_SCHEMA"] == [6, 10]
    assert [f.line for f in second.findings if f.code == "UNKNOWN_KEY"] == [24]


def test_anchors_and_merges_work() -> None:
    one, _ = load_documents(TWO.replace(",\n      ghost", ""), "two.yaml")
    template = validate(one).template
    assert template is not None
    assert [step.retry.max_attempts for step in template.steps] == [5, 5]
    assert [step.retry.backoff for step in template.steps] == ["exponential", "linear"]


def test_merges_of_merges_are_not_duplicates() -> None:
    [document] = load_documents("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\n", "m.yaml")
    assert document.content == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


def test_dates_stay_text_since_json_has_none() -> None:
    [document] = load_documents("created_at: 2024-01-01\nat: 2024-01-01T10:00:00Z\n", "d.yaml")
    assert document.content == {"created_at": "2024-01-01", "at": "2024-01-01T10:00:00Z"}


def test_json_is_yaml() -> None:
    value = {"name": "a", "list": [1, 2.5, None, True, "ä"]}
    [document] = load_documents(json.dumps(value, indent=2), "a.json")
    assert document.content == value


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "--- null\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert load_documents(text, "empty.yaml") == []


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: [1\n", 3, "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2\n", 2, "key 'a' is given twice"),
        ("x:\n  y: 1\n  z: 2\n  y: 3\n", 4, "key 'y' is given twice"),
        ("a: *nowhere\n", 1, "found undefined alias 'nowhere'"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("\ta: 1\n", 1, "found character '\\t' that cannot start any token"),
        ("a: \x00\n", None, "unacceptable character"),
        ("[" * 5000, 1, "nested too deeply"),
    ],
)
def test_what_cannot_be_parsed_says_where_and_why(text: str, line: int | None, problem: str) -> None:
    [document] = load_documents(text, "bad.yaml")
    assert document.content is None
    assert document.problem_line == line
    assert document.problem is not None
    assert problem in document.problem
    place = "bad.yaml" if line is None else f"bad.yaml:{line}"
    [finding] = validate(document).findings
    assert finding.message == f"cannot parse {place}: {document.problem}"


def test_documents_before_a_broken_one_are_good() -> None:
    first, broken = load_documents("name: a\n---\nname: [\n---\nname: c\n", "f.yaml")
    assert first.content == {"name": "a"}
    assert broken.problem is not None


# Lines

EVERYTHING_WRONG = """\
name: Everything
namespace: wrong
version: 1.0
taskhandler: x
ttl: soon
input_schema: {type: objekt}
steps:
  - name: a
    handler: ""
    depends_on: [a, b]
    timeout_seconds: 0
  - handler: shop.b
    retry:
      limit: 5
      backoff: cubic
  - name: b
    dependencies:
      - c
      - c
    handler: shop.c
    publishes_events: [shipped]
  - name: c
    depends_on: [b, ghost]
environments:
  test:
    steps:
      - name: nobody
        retry: {max_attempts: "2"}
"""


def test_every_fault_is_found_at_once_and_in_its_line() -> None:
    [document] = load_documents(EVERYTHING_WRONG, "wrong.yaml")
    report = validate(document)
    assert [(f.line, f.code.value) for f in report.findings if f.code is not Code.NO_RESULT_SCHEMA] == [
        (1, "INVALID_NAME"),
        (3, "INVALID_VERSION"),
        (4, "UNKNOWN_KEY"),
        (5, "OUT_OF_RANGE"),
        (6, "INVALID_JSON_SCHEMA"),
        (9, "EMPTY_CALLABLE"),
        (10, "SELF_DEPENDENCY"),
        (11, "OUT_OF_RANGE"),
        (12, "MISSING_FIELD"),
        (14, "LEGACY_KEY"),
        (15, "OUT_OF_RANGE"),
        (16, "CYCLE_DETECTED"),
        (19, "DUPLICATE_DEPENDENCY"),
        (21, "INVALID_EVENT"),
        (22, "MISSING_FIELD"),
        (23, "MISSING_DEP_REF"),
        (27, "UNKNOWN_OVERRIDE_STEP"),
        (28, "WRONG_TYPE"),
    ]
    assert not report.valid
    assert "wrong.yaml:11: OUT_OF_RANGE: steps[0].timeout_seconds: 0 not in 1..3600" in map(
        str, report.errors
    )


BAD = [(code, document) for code, _, document, _, _ in BAD_DOCUMENTS + BAD_WORKFLOWS]


@pytest.mark.parametrize(("code", "document"), BAD)
def test_every_finding_has_a_file_and_a_line(code: Code, document: Any) -> None:
    text = "# A comment.\n" + yaml.safe_dump(document, sort_keys=False)
    [loaded] = load_documents(text, "bad.yaml")
    findings = validate(loaded).findings
    assert code in {finding.code for finding in findings}
    for finding in findings:
        assert finding.line is not None
        assert 2 <= finding.line <= text.count("\n")
        assert str(finding) == f"bad.yaml:{finding.line}: {finding.code}: {finding.message}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("10:20:30", "10:20:30"),
        ("1_000", "1_000"),
        ("2024-01-05", "2024-01-05"),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("0", 0),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("12345678901234567890", 12345678901234567890),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
    ],
)
def test_plain_text_means_what_yaml_1_2_says(text: str, value: object) -> None:
    (document,) = load_documents(f"a: {text}", "x.yaml")
    assert (document.content, document.problem) == ({"a": value}, None)


def test_keys_are_no_booleans_either() -> None:
    (document,) = load_documents("{on: 1, no: 2}", "x.yaml")
    assert document.content == {"on": 1, "no": 2}


@pytest.mark.parametrize("text", ["01234", "0755", "08", "-012"])
def test_a_zero_in_front_is_refused_where_it_would_be_lost(text: str) -> None:
    (document,) = load_documents(f"zip:\n  code: {text}", "x.yaml")
    assert document.problem_line == 2
    assert f"write '{text}' in quotes" in (document.problem or "")
