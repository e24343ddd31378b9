"""The handlers of the analytics pipeline."""

from __future__ import annotations

from datetime import date

import pytest

from examples import pipeline
from examples.pipeline import Customer, Customers, Extract, Inventory, Metrics, Stock


def stock(product: str, on_hand: int, reorder_point: int) -> Stock:
    return Stock(
        product_id=product, sku="s", warehouse="w", quantity_on_hand=on_hand, reorder_point=reorder_point
    )


def metrics(*, revenue_per_customer: float = 0, alerts: int = 1) -> Metrics:
    return Metrics(
        total_revenue=0,
        total_inventory_quantity=0,
        total_customers=1,
        total_customer_lifetime_value=0,
        inventory_reorder_alerts=alerts,
        revenue_per_customer=revenue_per_customer,
        inventory_turnover_indicator=0,
    )


def customers(lifetime_value: float = 0, *, count: int = 1) -> Customers:
    return Customers(
        total_customers=count,
        total_lifetime_value=lifetime_value,
        customers_by_tier={},
        customers_by_segment={},
    )


def test_sales_are_added_up_by_day_and_product() -> None:
    sales = pipeline.transform_sales(pipeline.extract_sales())
    assert (sales.total_revenue, sales.total_quantity) == (3199.73, 27)
    assert sales.revenue_by_product == {"PROD-A": 699.93, "PROD-B": 999.9, "PROD-C": 1499.9}
    assert sales.revenue_by_day[date(2025, 11, 15)] == 1499.9


def test_the_warehouses_are_added_up() -> None:
    inventory = pipeline.transform_inventory(pipeline.extract_inventory())
    assert inventory.quantity_by_product == {"PROD-A": 250, "PROD-B": 125, "PROD-C": 200}
    assert (inventory.total_quantity, inventory.products_to_reorder) == (575, [])


def test_a_product_is_reordered_when_all_warehouses_together_hold_too_little() -> None:
    rows = [stock("a", 5, 10), stock("a", 15, 10), stock("b", 9, 10), stock("c", 10, 10)]
    inventory = pipeline.transform_inventory(Extract(source="test", rows=rows))
    assert inventory.products_to_reorder == ["b"]


def test_customers_are_counted_by_tier_and_segment() -> None:
    made = pipeline.transform_customers(pipeline.extract_customers())
    assert (made.total_customers, made.total_lifetime_value) == (5, 30_500)
    assert made.customers_by_tier == {"gold": 2, "silver": 1, "premium": 1, "standard": 1}
    assert made.customers_by_segment == {"high_value": 1, "medium_value": 3, "low_value": 1}


@pytest.mark.parametrize(
    ("value", "segment"),
    [(10_000, "high_value"), (9_999.99, "medium_value"), (1_000, "medium_value"), (999.99, "low_value")],
)
def test_a_segment_begins_at_its_threshold(value: float, segment: str) -> None:
    rows = [Customer(customer_id="c", tier="gold", lifetime_value=value)]
    assert pipeline.transform_customers(Extract(source="test", rows=rows)).customers_by_segment == {
        segment: 1
    }


def test_without_customers_or_stock_there_are_no_ratios() -> None:
    made = pipeline.aggregate_metrics(
        pipeline.transform_sales(pipeline.extract_sales()),
        Inventory(total_quantity=0, quantity_by_product={}, products_to_reorder=[]),
        customers(count=0),
    )
    assert (made.revenue_per_customer, made.inventory_turnover_indicator) == (0, 0)


@pytest.mark.parametrize(
    ("revenue", "alerts", "lifetime_value", "score", "rating"),
    [
        (500.01, 0, 3_000.01, 100, "Excellent"),
        (500.01, 0, 3_000, 70, "Good"),
        (500, 0, 3_000.01, 60, "Good"),
        (500.01, 1, 3_000, 40, "Fair"),
        (500, 0, 3_000, 30, "Needs Improvement"),
        (500, 1, 3_000, 0, "Needs Improvement"),
    ],
)
def test_health_is_scored_and_rated(
    revenue: float, alerts: int, lifetime_value: float, score: int, rating: str
) -> None:
    insights = pipeline.generate_insights(
        metrics(revenue_per_customer=revenue, alerts=alerts), customers(lifetime_value)
    )
    assert (insights.health_score.score, insights.health_score.rating) == (score, rating)
