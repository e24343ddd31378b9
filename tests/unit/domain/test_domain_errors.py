"""Errors carry facts, and a sentence a person can act on."""

from __future__ import annotations

from uuid import UUID

import pytest

from tasker.domain import errors
from tasker.domain.errors import FieldViolation, InvalidArgumentError, TaskerError

TASK = UUID(int=1)
STEP = UUID(int=2)

ALL = [
    errors.InvalidArgumentError.of("name", "required"),
    errors.UnknownTemplateError("shop", "checkout", "2.0.0", ["1.0.0", "1.1.0"]),
    errors.TaskNotFoundError(TASK),
    errors.StepNotFoundError(STEP, TASK),
    errors.TemplateNotFoundError("shop", "checkout", "2.0.0"),
    errors.DlqEntryNotFoundError(task_uuid=TASK),
    errors.IdentityConflictError("shop", "checkout", "1.0.0"),
    errors.IdentityConflictError("shop", "checkout", "1.0.0", idempotency_key="k"),
    errors.TemplateInUseError("shop", "checkout", "1.0.0", 3),
    errors.InvalidStepTransitionError("step", "complete", "start"),
    errors.DlqEntryClosedError(TASK, "cancelled"),
    errors.GuardFailedError("task", "waiting_for_retry", "retry_ready", "no step is ready", done="retried"),
    errors.UnavailableError("the queue is full", retry_after_seconds=30),
    errors.PermissionDeniedError("tasks:create", subject="reader"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_error_has_a_reason_a_message_and_facts_as_text(error: TaskerError) -> None:
    assert error.reason == error.reason.upper()
    assert str(error)
    assert {type(text) for fact in error.metadata.items() for text in fact} <= {str}


def test_one_error_names_everything_wrong_with_a_request() -> None:
    error = InvalidArgumentError([FieldViolation("name", "required"), FieldViolation("", "too much")])
    assert str(error) == "name: required; too much"
    assert len(error.violations) == 2


def test_an_unknown_template_is_a_bad_argument_to_create_and_not_found_to_get() -> None:
    unknown, missing = ALL[1], ALL[4]
    assert isinstance(unknown, errors.InvalidArgumentError)
    assert isinstance(missing, errors.NotFoundError)
    assert unknown.reason == missing.reason == "TEMPLATE_NOT_FOUND"
    assert "shop/checkout:2.0.0" in str(unknown)
    assert "known versions: 1.0.0, 1.1.0" in str(unknown)
    assert unknown.metadata["known_versions"] == "1.0.0,1.1.0"


def test_an_identity_conflict_tells_the_other_task_to_those_who_may_know_it() -> None:
    template = ("shop", "checkout", "1.0.0")
    hidden = errors.IdentityConflictError(*template)
    assert set(hidden.metadata) == {"namespace", "name", "version"}
    assert "pass an idempotency_key" in str(hidden)
    assert "read or watch" not in str(hidden)
    told = errors.IdentityConflictError(*template, existing_task_uuid=TASK)
    assert told.metadata == {**hidden.metadata, "task_uuid": str(TASK)}
    assert f"exists already: {TASK}; read or watch that one" in str(told)
