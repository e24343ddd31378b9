"""Every exception of ours has a status, unless it never leaves where it belongs; and none tells secrets."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import psycopg
import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

import tasker.config
import tasker.domain
import tasker.messaging
import tasker.orchestration
import tasker.persistence
import tasker.rpc
import tasker.telemetry
import tasker.worker
from tasker.persistence.failures import as_unavailable
from tasker.rpc.errors import STATUS_OF, status_of

#: What the two services are made of.
PACKAGES = (
    tasker.config,
    tasker.domain,
    tasker.messaging,
    tasker.orchestration,
    tasker.persistence,
    tasker.rpc,
    tasker.telemetry,
    tasker.worker,
)

#: The roots of families that no call ends with, by where they stay.
ELSEWHERE = {
    "end the start of a service": {
        "BindError", "DatabaseUrlError", "EmbeddedServerError", "HandlersUnfitError", "KeyFileError", "MigrationError",
        "SchemaVersionError", "SettingsError", "TemplateDirectoryError", "_NoLockError",
    },
    "are caught where they are raised": {
        "CredentialRefusedError", "ImportTimeoutError", "KeySetError", "OutcomeRefusedError", "ResultNotStorableError",
        "SchemaLoopError", "_BeyondError", "_GivenUpError", "_NotFiniteError", "_RollBackError", "_TooLargeError",
    },
    "become the result of a step": {
        "DependenciesTooLargeError", "HandlerDefinitionError", "HandlerError", "HandlerExit", "HandlerResolutionError",
        "LeaseLostError", "_ExecutorClosedError", "_IteratorFoundError",
    },
}  # fmt: skip
OUTSIDE = set().union(*ELSEWHERE.values())


def exceptions_of_ours() -> Iterator[type[BaseException]]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if issubclass(kind, BaseException) and kind.__module__ == module.name:
                    yield kind


def family(kind: type[BaseException]) -> set[str]:
    return {one.__name__ for one in kind.__mro__}


def test_every_exception_of_ours_has_a_status_or_never_leaves_where_it_belongs() -> None:
    kinds = set(exceptions_of_ours())
    homeless = {
        kind for kind in kinds if not STATUS_OF.keys() & set(kind.__mro__) and not OUTSIDE & family(kind)
    }
    # The root has no row: a class of its own needs one.
    assert {kind.__name__ for kind in homeless} == {"TaskerError"}
    assert {kind.__name__ for kind in kinds} >= OUTSIDE  # nobody in there is gone
    both = {kind.__name__ for kind in kinds if STATUS_OF.keys() & set(kind.__mro__)} & OUTSIDE
    assert both == set()


CANARIES = ("SELECT hush FROM tasker.tasks", "/var/lib/secret/key.pem", "postgresql://user:hunter2@db")


@pytest.mark.parametrize(
    "kind",
    [
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidTextRepresentation,
        psycopg.errors.UniqueViolation,
        psycopg.OperationalError,
        psycopg.errors.QueryCanceled,
        OSError,
        KeyError,
        RecursionError,
        AssertionError,
        *sorted(
            (kind for kind in exceptions_of_ours() if issubclass(kind, Exception) and OUTSIDE & family(kind)),
            key=lambda kind: kind.__qualname__,
        ),
    ],
)
def test_what_nobody_meant_to_tell_is_told_to_the_log_alone(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    error.args = CANARIES
    with capture_logs():
        status = status_of(as_unavailable(error), method="/tasker.v1.TaskService/GetTask")
    assert status.code in (StatusCode.INTERNAL, StatusCode.UNAVAILABLE)
    told = f"{status.message} {status.trailers}"
    assert not any(part in told for canary in CANARIES for part in canary.split())
