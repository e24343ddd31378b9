"""Every finding from a minimal bad template; all at once, without side effects."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tasker.domain.templates.document import StepType, Template
from tasker.domain.templates.findings import Code, Finding, InvalidTemplateError, Severity
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.validation import parse, validate
from tests.unit.domain.bad_documents import BAD_DOCUMENTS
from tests.unit.domain.bad_workflows import BAD_WORKFLOWS
from tests.unit.domain.examples import (
    APPROVAL,
    CSV,
    a_step,
    a_template,
    batch_worker,
    batchable,
    convergence,
    decision,
    two_branches,
)

E, W = Severity.ERROR, Severity.WARNING
BAD = BAD_DOCUMENTS + BAD_WORKFLOWS


@pytest.mark.parametrize(
    ("code", "severity", "document", "path", "message"),
    BAD,
    ids=[f"{code}-{path}-{index}" for index, (code, _, _, path, _) in enumerate(BAD)],
)
def test_a_minimal_bad_template_has_exactly_this_finding(
    code: Code, severity: Severity, document: Any, path: str, message: str
) -> None:
    report = validate(document)
    found = [finding for finding in report.findings if finding.code is code]
    assert [(f.severity, f.path, f.message) for f in found] == [(severity, path, message)]
    assert report.valid is (severity is not E)
    assert (report.template is not None) is report.valid
    worse = [f for f in report.findings if f.severity is E and f.code is not code]
    assert worse == [] or code in {Code.WORKER_ORPHAN, Code.WORKER_WRONG_TYPE, Code.BATCH_WORKER_UNRESOLVED}


def test_no_code_is_left_out() -> None:
    assert {code for code, *_ in BAD} | {Code.INVALID_YAML, Code.HANDLER_MISSING, Code.HANDLER_UNFIT} == set(
        Code
    )


def test_three_faults_are_three_findings() -> None:
    document = a_template(
        a_step("a", "a"), a_step("b", "a", "ghost"), a_step("c", "b", timeout_seconds=0), version="1"
    )
    report = validate(document)
    assert {f.code for f in report.errors} == {
        Code.SELF_DEPENDENCY,
        Code.MISSING_DEP_REF,
        Code.OUT_OF_RANGE,
        Code.INVALID_VERSION,
    }
    assert report.step_count == 3
    assert report.has_cycles
    assert {f.step for f in report.errors} == {"a", "b", "c", None}
    with pytest.raises(InvalidTemplateError, match="has 4 errors") as refused:
        parse(document)
    assert refused.value.report == report
    assert {violation.field for violation in refused.value.violations} == {f.path for f in report.errors}


def test_every_cycle_is_shown() -> None:
    report = validate(
        a_template(
            a_step("a", "b"), a_step("b", "a"), a_step("c", "b", "d"), a_step("d", "c"), a_step("e", "d")
        )
    )
    cycles = [f.message for f in report.findings if f.code is Code.CYCLE_DETECTED]
    assert cycles == ["dependency cycle: a -> b -> a", "dependency cycle: c -> d -> c"]
    assert report.has_cycles


@pytest.mark.parametrize("document", [a_template(), APPROVAL, CSV])
def test_a_good_template_has_no_findings(document: dict[str, Any]) -> None:
    report = validate(document)
    assert report.findings == ()
    assert report.valid
    assert report.step_count == len(document["steps"])
    assert not report.has_cycles


def test_a_limit_is_max_attempts_with_a_warning() -> None:
    report = validate(a_template(a_step("a", retry={"limit": 5})))
    assert report.valid
    assert report.template is not None
    assert report.template.steps[0].retry.max_attempts == 5
    message = "steps[0].retry.limit: old name of max_attempts; write max_attempts"
    assert [(f.code, f.severity, f.message) for f in report.findings] == [(Code.LEGACY_KEY, W, message)]


def test_a_yaml_number_as_version_and_a_long_namespace_are_refused() -> None:
    text = f"""
name: checkout
version: 1.0
namespace: {"n" * 30}
steps:
  - name: a
    handler: shop.a
"""
    [document] = load_documents(text, "checkout.yaml")
    report = validate(document)
    assert [(f.code, f.line) for f in report.errors] == [
        (Code.INVALID_VERSION, 3),
        (Code.NAMESPACE_TOO_LONG, 4),
    ]


def test_other_spellings_mean_the_same() -> None:
    usual = parse(
        a_template(
            a_step("a"),
            decision("b", "a"),
            a_step("x", "b"),
            convergence("c", "b", "x"),
            batchable("s", batch_config={"worker_template": "w", "failure_strategy": "isolate"}),
            batch_worker("w", "s"),
            convergence("d", "w"),
        )
    )
    other = parse(
        {
            "name": "checkout",
            "namespace": "shop",
            "version": "1.2.0",
            "steps": [
                {"name": "a", "handler": "shop.a", "result_schema": {"type": "object"}, "retry": None},
                a_step("b", step_type="decision_point", depends_on=["a"]),
                a_step("x", depends_on=["b"]),
                a_step("c", type="deferred", depends_on=["b", "x"]),
                a_step(
                    "s",
                    type="batchable",
                    batch_config={"worker_template": "w", "failure_strategy": "isolate_failed"},
                ),
                batch_worker("w", "s"),
                convergence("d", "w"),
            ],
        }
    )
    assert other == usual
    assert usual.steps[1].type is StepType.DECISION


def test_an_unknown_key_is_an_error_for_the_strict() -> None:
    document = a_template(task_handler="x")
    assert validate(document).valid
    [finding] = validate(document, strict=True).findings
    assert (finding.code, finding.severity) == (Code.UNKNOWN_KEY, E)


def test_free_maps_may_hold_any_key() -> None:
    document = a_template(
        a_step("a", handler={"callable": "x", "initialization": {"type": "odd", "limit": None}}),
        metadata={"author": "sam", "team": "shop"},
        default_context={"namespace": "kept"},
    )
    template = parse(document)
    assert template.steps[0].handler.initialization == {"type": "odd", "limit": None}
    assert template.metadata == {"author": "sam", "team": "shop"}
    assert template.default_context == {"namespace": "kept"}


def test_a_base_above_the_default_cap_takes_the_cap_along() -> None:
    retry = parse(a_template(a_step("a", retry={"backoff_base_ms": 60_000}))).steps[0].retry
    assert (retry.backoff_base_ms, retry.max_backoff_ms) == (60_000, 60_000)


def test_what_joins_branches_properly_is_not_warned_about() -> None:
    nested = two_branches(
        decision("again", "route", "left"),  # a decision and one of its own branches
        a_step("deep", "again"),
        a_step("behind", "left", "again"),  # both on the same branch
        convergence("join", "route", "left", "right", "again", "deep", "behind"),
        a_step("after", "join"),
    )
    assert validate(nested).findings == ()


def test_a_convergence_that_always_has_a_parent_need_not_list_the_decision() -> None:
    assert validate(two_branches(convergence("join", "start", "left", "right"))).findings == ()


def test_the_convergence_of_a_batch_inside_a_branch_goes_with_the_branch() -> None:
    document = two_branches(
        batchable("split", "left"),
        batch_worker("w", "split"),
        convergence("merge", "w"),
    )
    assert validate(document).findings == ()


def test_a_file_that_cannot_be_read_says_where() -> None:
    good, bad = load_documents("name: a\n---\nname: [b\nversion: 1\n", "two.yaml")
    assert good.content == {"name": "a"}
    report = validate(bad)
    [finding] = report.findings
    assert (finding.code, finding.line, report.valid, report.step_count) == (Code.INVALID_YAML, 4, False, 0)
    assert finding.message.startswith("cannot parse two.yaml:4: ")


def test_an_anchor_bomb_is_refused_not_expanded() -> None:
    levels = "\n".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
    text = f"name: a\nmetadata:\n  l0: &l0 [x]\n{levels}\n"
    [document] = load_documents(text, "bomb.yaml")
    report = validate(document)
    assert [(f.code, f.path) for f in report.errors] == [(Code.OUT_OF_RANGE, "metadata")]
    [loop] = load_documents("metadata: &a {x: *a}", "loop.yaml")
    assert [(f.code, f.path) for f in validate(loop).errors] == [(Code.OUT_OF_RANGE, "metadata")]


def test_validate_is_pure() -> None:
    for document in [APPROVAL, a_template(a_step("a", retry={"limit": 5, "backoff_base_ms": 50}))]:
        before = copy.deepcopy(document)
        assert validate(document) == validate(document)
        assert document == before


def test_a_finding_stands_alone() -> None:
    [finding] = validate(a_template(version="1")).findings
    assert finding == Finding(Code.INVALID_VERSION, E, "version '1' must be x.y.z", "version")


def test_a_stored_template_comes_back_equal() -> None:
    for document in (APPROVAL, CSV, a_template(ttl="1h30m", on_worker_lost="fail")):
        template = parse(document)
        assert Template.model_validate(template.to_json()) == template
