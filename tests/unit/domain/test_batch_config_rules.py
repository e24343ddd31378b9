"""Where `batch_config` means something: the batchable step or its batch_worker."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.domain.templates.findings import Code
from tasker.domain.templates.validation import validate
from tests.unit.domain.examples import CSV, a_step, a_template, batch_worker, batchable, convergence

CONFIG = {"worker_template": "w", "batch_size": 10}


def codes(document: dict[str, Any]) -> list[Code]:
    return [finding.code for finding in validate(document).findings]


def test_it_may_stand_in_the_step_that_splits_or_in_the_one_that_works() -> None:
    worker_has_it = a_template(
        batchable("split"), batch_worker("w", "split", batch_config=CONFIG), convergence("c", "w")
    )
    assert codes(CSV) == codes(worker_has_it) == []


def test_a_forgotten_type_is_noticed_and_no_obstacle() -> None:
    report = validate(a_template(a_step("a", batch_config=CONFIG)))
    assert report.valid
    [finding] = report.warnings
    assert (finding.code, finding.step, finding.path) == (
        Code.BATCH_CONFIG_UNUSED,
        "a",
        "steps[0].batch_config",
    )


@pytest.mark.parametrize("kind", ["batchabel", 3, ["batchable"]])
def test_a_type_that_is_none_is_the_only_complaint(kind: object) -> None:
    found = codes(a_template(a_step("a", type=kind, batch_config=CONFIG)))
    assert Code.BATCH_CONFIG_UNUSED not in found
    assert len(found) == 1


def test_null_is_no_configuration() -> None:
    assert codes(a_template(a_step("a", batch_config=None))) == []
