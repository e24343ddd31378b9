"""Small templates for the tests of this folder."""

from __future__ import annotations

from typing import Any


def a_step(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    """Return a step that is complete, result schema included, so that only what a test breaks is found."""
    step: dict[str, Any] = {
        "name": name,
        "handler": {"callable": f"shop.{name}"},
        "result_schema": {"type": "object"},
    }
    if parents:
        step["dependencies"] = list(parents)
    return step | more


def a_template(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a valid document; without steps it has one."""
    document: dict[str, Any] = {"name": "checkout", "namespace_name": "shop", "version": "1.2.0"}
    return document | {"steps": list(steps or [a_step("price_cart")])} | more


def decision(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    """Return a decision step."""
    return a_step(name, *parents, type="decision", **more)


def convergence(name: str, *parents: str) -> dict[str, Any]:
    """Return a step that waits for whatever of its parents comes to exist."""
    return a_step(name, *parents, type="deferred_convergence")


def batchable(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    """Return a step that splits work into batches."""
    return a_step(name, *parents, type="batchable", **more)


def batch_worker(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    """Return the template of a batch's instances."""
    return a_step(name, *parents, type="batch_worker", **more)


def two_branches(*more: dict[str, Any]) -> dict[str, Any]:
    """Return a decision between `left` and `right`, and what comes behind."""
    return a_template(
        a_step("start"), decision("route", "start"), a_step("left", "route"), a_step("right", "route"), *more
    )


#: Decides after `validate`; `finalize` waits for the branches chosen.
APPROVAL = a_template(
    a_step("validate"),
    decision("route", "validate"),
    a_step("auto_approve", "route"),
    a_step("manager_approval", "route"),
    convergence("finalize", "route", "auto_approve", "manager_approval"),
)

#: Splits a file, works on the parts, puts them together.
CSV = a_template(
    batchable("analyze", batch_config={"worker_template": "load_rows", "batch_size": 200}),
    batch_worker("load_rows", "analyze"),
    convergence("aggregate", "load_rows"),
)
