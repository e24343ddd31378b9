"""What the examples with decisions and batches promise, from end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker.client import Task, TaskerClient, TaskState
from tests.scenarios import scenarios
from tests.scenarios.scenarios import PRODUCTS

REQUEST: dict[str, Any] = {"requester": "sam", "purpose": "boundaries"}


@pytest.fixture(scope="module")
async def client(module_database_url: str) -> AsyncIterator[TaskerClient]:
    async with scenarios.served(module_database_url) as client:
        yield client


async def completed(client: TaskerClient, template: str, context: dict[str, Any]) -> Task:
    task = (await scenarios.run(client, template, context)).settled
    assert task.state is TaskState.COMPLETE
    return task


def names(task: Task) -> set[str]:
    return {step.name for step in task.steps}


# Numbers


@pytest.mark.parametrize("number", [6, 98])
@pytest.mark.parametrize(
    ("template", "last"),
    [
        ("examples_tree/hierarchical_tree", "tree_final_convergence"),
        ("examples_mixed_dag/complex_dag", "dag_finalize"),
    ],
)
async def test_a_power_of_64_is_exact(client: TaskerClient, template: str, last: str, number: int) -> None:
    task = await completed(client, template, {"even_number": number})
    assert task.step(last).result["value"] == str(number**64)


# Decisions


@pytest.mark.parametrize(
    ("amount", "branches"),
    [
        (999.99, {"auto_approve"}),
        (1000, {"manager_approval"}),
        (4999.99, {"manager_approval"}),
        (5000, {"manager_approval", "finance_review"}),
    ],
)
async def test_an_amount_at_a_boundary_takes_its_branch(
    client: TaskerClient, amount: float, branches: set[str]
) -> None:
    task = await completed(client, "examples_approval/approval_routing", REQUEST | {"amount": amount})
    assert names(task) == {"validate_request", "routing_decision", "finalize_approval"} | branches
    assert task.total_steps == len(task.steps)
    final = task.step("finalize_approval")
    assert final.total_parents == 1 + len(branches)
    assert {one["approval_type"] for one in final.result["approvals"]} == {
        branch.split("_")[0] for branch in branches
    }


async def test_an_emergency_takes_five_steps(client: TaskerClient) -> None:
    context = REQUEST | {"amount": 9999.99, "emergency": True, "risk_score": 99, "jurisdiction": "EU"}
    task = await completed(client, "examples_approval/multi_tier_approval", context)
    assert names(task) == {
        "validate_request",
        "assess_risk",
        "primary_routing",
        "emergency_approval",
        "finalize_approval",
    }


async def test_the_end_appears_after_the_inner_decision_and_waits_for_all_branches(
    client: TaskerClient,
) -> None:
    context = REQUEST | {"amount": 75_000, "risk_score": 80, "jurisdiction": "APAC"}
    task = await completed(client, "examples_approval/multi_tier_approval", context)
    final, inner = task.step("finalize_approval"), task.step("compliance_routing")
    reviews = [task.step(name) for name in ("legal_review", "fraud_investigation", "jurisdictional_check")]
    assert inner.created_at < final.created_at
    assert all(step.created_at == final.created_at for step in reviews)  # both come with the inner decision
    assert final.total_parents == 6
    assert final.last_attempted_at is not None
    assert all(step.completed_at and step.completed_at <= final.last_attempted_at for step in reviews)
    assert final.result["approval_count"] == 4


# Batches


@pytest.mark.parametrize("file", PRODUCTS)
async def test_a_file_comes_to_its_totals(client: TaskerClient, file: str) -> None:
    context = {"csv_file_path": file, "analysis_mode": "totals"}
    task = await completed(client, "examples_csv/csv_product_inventory_analyzer", context)
    expected = PRODUCTS[file]
    instances = [worker["name"] for worker in expected["workers"]] or ["process_csv_batch_000"]
    assert names(task) == {"analyze_csv", "aggregate_csv_results", *instances}
    for worker in expected["workers"]:
        found = dict(task.step(worker["name"]).result)
        found["name"] = f"process_csv_batch_{found.pop('batch_id')}"
        assert found == worker
    total = dict(task.step("aggregate_csv_results").result)
    total["average_rating"] = total.pop("overall_average_rating")
    assert {key: total[key] for key in expected["aggregate"]} == expected["aggregate"]
    if not expected["workers"]:
        assert (total["category_counts"], total["total_inventory_value"]) == ({}, "0")


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(999, []), (1000, [1000]), (1001, [501, 500]), (3500, [875] * 4), (25_000, [2500] * 10)],
)
async def test_a_dataset_is_shared_out(client: TaskerClient, size: int, sizes: list[int]) -> None:
    task = await completed(client, "examples_batch/large_dataset_processor", {"dataset_size": size})
    instances = [f"process_batch_{number:03}" for number in range(1, len(sizes) + 1)]
    assert [task.step(name).result["items_processed"] for name in instances] == sizes
    assert task.step("aggregate_results").result == {
        "total_processed": size,
        "total_value": size * (size - 1),
        "worker_count": len(sizes),
    }


async def test_a_decision_a_batch_and_its_end_run_each_step_once(
    client: TaskerClient,
) -> None:
    numbers = [1, 2, 3, 5, 7, 9, 11, 13, 15]
    task = await completed(client, "examples_combined/diamond_decision_batch_processor", {"numbers": numbers})
    assert len(task.steps) == len(names(task)) == 6 + 4
    assert {step.attempts for step in task.steps} == {1}
    result = task.step("aggregate_odd_results").result
    assert result == {"total_sum": 64, "batch_count": 4, "average": 16}
