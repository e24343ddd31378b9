"""Handlers of the analytics pipeline: sync functions that hand each other pydantic models.

What a function returns is stored as JSON and read back into the type that a later function asks for, so a result that
does not fit fails the step that reads it, naming the field.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydantic import BaseModel

from tasker.worker import depends_on, step_handler

#: The source systems, as far as an example has them.
SOURCES: Final = Path(__file__).parent / "analytics_pipeline"

#: Lifetime value from which a customer belongs to a segment, highest first.
SEGMENTS: Final = {"high_value": 10_000, "medium_value": 1_000, "low_value": 0}

#: Health score from which a rating is given, highest first.
RATINGS: Final = {"Excellent": 80, "Good": 60, "Fair": 40, "Needs Improvement": 0}

Row = TypeVar("Row", bound=BaseModel)
Key = TypeVar("Key")


# What is extracted


class Sale(BaseModel):
    order_id: str
    date: date
    product_id: str
    quantity: int
    amount: float


class Stock(BaseModel):
    product_id: str
    sku: str
    warehouse: str
    quantity_on_hand: int
    reorder_point: int


class Customer(BaseModel):
    customer_id: str
    tier: str
    lifetime_value: float


class Extract(BaseModel, Generic[Row]):
    source: str
    rows: list[Row]


@step_handler("examples.pipeline.extract_sales")
def extract_sales() -> Extract[Sale]:
    return Extract(source="sales.csv", rows=read("sales.csv", Sale))


@step_handler("examples.pipeline.extract_inventory")
def extract_inventory() -> Extract[Stock]:
    return Extract(source="inventory.csv", rows=read("inventory.csv", Stock))


@step_handler("examples.pipeline.extract_customers")
def extract_customers() -> Extract[Customer]:
    return Extract(source="customers.csv", rows=read("customers.csv", Customer))


# What is made of it


class Sales(BaseModel):
    total_revenue: float
    total_quantity: int
    revenue_by_day: dict[date, float]
    revenue_by_product: dict[str, float]


class Inventory(BaseModel):
    total_quantity: int
    quantity_by_product: dict[str, int]
    products_to_reorder: list[str]


class Customers(BaseModel):
    total_customers: int
    total_lifetime_value: float
    customers_by_tier: dict[str, int]
    customers_by_segment: dict[str, int]


@step_handler("examples.pipeline.transform_sales")
@depends_on(extracted="extract_sales_data")
def transform_sales(extracted: Extract[Sale]) -> Sales:
    sales = extracted.rows
    return Sales(
        total_revenue=money(sale.amount for sale in sales),
        total_quantity=sum(sale.quantity for sale in sales),
        revenue_by_day=revenue((sale.date, sale.amount) for sale in sales),
        revenue_by_product=revenue((sale.product_id, sale.amount) for sale in sales),
    )


@step_handler("examples.pipeline.transform_inventory")
@depends_on(extracted="extract_inventory_data")
def transform_inventory(extracted: Extract[Stock]) -> Inventory:
    """Adds up the warehouses: a product is reordered when all of them together hold too little."""
    on_hand, reorder_point = Counter[str](), Counter[str]()
    for stock in extracted.rows:
        on_hand[stock.product_id] += stock.quantity_on_hand
        reorder_point[stock.product_id] += stock.reorder_point
    return Inventory(
        total_quantity=on_hand.total(),
        quantity_by_product=on_hand,
        products_to_reorder=[product for product in on_hand if on_hand[product] < reorder_point[product]],
    )


@step_handler("examples.pipeline.transform_customers")
@depends_on(extracted="extract_customer_data")
def transform_customers(extracted: Extract[Customer]) -> Customers:
    customers = extracted.rows
    return Customers(
        total_customers=len(customers),
        total_lifetime_value=money(customer.lifetime_value for customer in customers),
        customers_by_tier=Counter(customer.tier for customer in customers),
        customers_by_segment=Counter(highest(SEGMENTS, customer.lifetime_value) for customer in customers),
    )


# What it tells


class Metrics(BaseModel):
    total_revenue: float
    total_inventory_quantity: int
    total_customers: int
    total_customer_lifetime_value: float
    inventory_reorder_alerts: int
    revenue_per_customer: float
    inventory_turnover_indicator: float


class HealthScore(BaseModel):
    score: int
    rating: str


class Insights(BaseModel):
    findings: list[str]
    health_score: HealthScore


@step_handler("examples.pipeline.aggregate_metrics")
@depends_on(sales="transform_sales", inventory="transform_inventory", customers="transform_customers")
def aggregate_metrics(sales: Sales, inventory: Inventory, customers: Customers) -> Metrics:
    return Metrics(
        total_revenue=sales.total_revenue,
        total_inventory_quantity=inventory.total_quantity,
        total_customers=customers.total_customers,
        total_customer_lifetime_value=customers.total_lifetime_value,
        inventory_reorder_alerts=len(inventory.products_to_reorder),
        revenue_per_customer=ratio(sales.total_revenue, customers.total_customers, digits=2),
        inventory_turnover_indicator=ratio(sales.total_revenue, inventory.total_quantity, digits=4),
    )


@step_handler("examples.pipeline.generate_insights")
@depends_on(metrics="aggregate_metrics", customers="transform_customers")
def generate_insights(metrics: Metrics, customers: Customers) -> Insights:
    """Reads its parent's result, and one from two steps before."""
    lifetime_value = ratio(customers.total_lifetime_value, customers.total_customers, digits=2)
    score = sum(
        points
        for points, healthy in (
            (40, metrics.revenue_per_customer > 500),
            (30, metrics.inventory_reorder_alerts == 0),
            (30, lifetime_value > 3_000),
        )
        if healthy
    )
    return Insights(
        findings=[
            f"{metrics.total_customers} customers brought {metrics.revenue_per_customer:.2f} each",
            f"{metrics.inventory_reorder_alerts} products must be ordered again",
            f"a customer is worth {lifetime_value:.2f} over time",
        ],
        health_score=HealthScore(score=score, rating=highest(RATINGS, score)),
    )


def read(file: str, row: type[Row]) -> list[Row]:
    """Return the rows of a file, each checked by its model."""
    with (SOURCES / file).open(encoding="utf-8", newline="") as lines:
        return [row.model_validate(line) for line in csv.DictReader(lines)]


def money(amounts: Iterable[float]) -> float:
    """Return a sum in whole cents."""
    return round(sum(amounts), 2)


def revenue(sales: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    """Return the revenue under each key."""
    amounts: defaultdict[Key, list[float]] = defaultdict(list)
    for key, amount in sales:
        amounts[key].append(amount)
    return {key: money(sold) for key, sold in amounts.items()}


def ratio(dividend: float, divisor: float, *, digits: int) -> float:
    """Return a quotient; without anything to divide by it is 0."""
    return round(dividend / divisor, digits) if divisor else 0.0


def highest(thresholds: dict[str, int], value: float) -> str:
    """Return the first name whose threshold a value reaches."""
    return next(name for name, threshold in thresholds.items() if value >= threshold)
