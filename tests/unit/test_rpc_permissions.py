"""The table of permissions knows every rpc there is, and a grant allows what it says."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

import tasker.v1
from tasker.rpc.permissions import (
    ANYBODY,
    PERMISSION_OF,
    PUBLIC_SERVICES,
    VOCABULARY,
    Caller,
    Permission,
    caller,
    is_public,
    permission_of,
    unknown_permissions,
)

PERMISSIONS = pytest.mark.parametrize("permission", Permission, ids=str)


def every_method() -> list[MethodDescriptor]:
    """The methods of all services of the contract."""
    modules = [
        import_module(f"tasker.v1.{module.name}")
        for module in iter_modules(tasker.v1.__path__)
        if module.name.endswith("_pb2")
    ]
    return [
        method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def granted(*permissions: str) -> Caller:
    return Caller("somebody", "jwt", frozenset(permissions))


def test_every_rpc_of_the_contract_is_in_the_table_or_public() -> None:
    methods = every_method()
    assert len(methods) >= 50
    for method in methods:
        service = method.containing_service.full_name
        path = f"/{service}/{method.name}"
        assert is_public(path) == (service in PUBLIC_SERVICES), path
        assert (permission_of(path) is None) == is_public(path), path


def test_whoever_may_read_a_task_they_know_cannot_watch_those_of_others() -> None:
    needed = permission_of("/tasker.v1.WatchService/WatchTasks")
    assert needed is permission_of("/tasker.v1.TaskService/ListTasks") is Permission.TASKS_LIST


def test_the_table_has_no_row_for_what_is_not_there() -> None:
    methods = {(method.containing_service.full_name, method.name) for method in every_method()}
    rows = {(service, method) for service, permissions in PERMISSION_OF.items() for method in permissions}
    assert rows <= methods
    others = {health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection"}
    assert {service for service, _ in methods} | others >= PUBLIC_SERVICES


@pytest.mark.parametrize(
    "method", ["/tasker.v1.TaskService/DropAll", "/tasker.v2.TaskService/GetTask", "GetTask", "/", ""]
)
def test_what_is_in_no_row_is_neither_public_nor_granted(method: str) -> None:
    assert not is_public(method)
    assert permission_of(method) is None


@PERMISSIONS
def test_a_permission_and_its_wildcard_allow_it(permission: Permission) -> None:
    resource, _, _ = permission.partition(":")
    assert granted(permission).may(permission)
    assert granted(f"{resource}:*").may(permission)
    assert ANYBODY.may(permission)


@PERMISSIONS
def test_no_other_grant_allows_it(permission: Permission) -> None:
    others = VOCABULARY - {permission, permission.wildcard}
    assert len(others) == len(VOCABULARY) - 2
    assert not granted(*others).may(permission)
    for bare in ("*", "*:*", permission.upper(), f"{permission} ", permission.partition(":")[0]):
        assert not granted(bare).may(permission), bare


def test_the_vocabulary_has_a_wildcard_a_resource_and_no_other() -> None:
    wildcards = {grant for grant in VOCABULARY if grant not in set(Permission)}
    assert wildcards == {"tasks:*", "steps:*", "dlq:*", "templates:*", "system:*", "worker:*"}
    assert unknown_permissions(["tasks:read", "tasks:*", "*", "tasks:fly"]) == ["*", "tasks:fly"]


def test_only_callers_with_the_permission_read_contexts() -> None:
    assert ANYBODY.reads_context
    assert granted("tasks:context_read").reads_context
    assert not granted("tasks:read", "tasks:list", "steps:*").reads_context
    assert Caller("somebody", "jwt", frozenset({"tasks:read"}), context_is_open=True).reads_context


def test_whoever_calls_nothing_is_anybody() -> None:
    assert caller() is ANYBODY
