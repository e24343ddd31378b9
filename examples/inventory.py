"""Handlers of an inventory: a file is cut into ranges of rows, workers summarise them side by side, one step adds up.

Three functions, one for each side of a batch. What a worker is told is only where its rows begin and end; it reads them
itself, so that the rows never travel through the database. Money is decimal, and decimal strings in the results.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel

from tasker.worker import (
    BatchAggregationScenario,
    BatchConfig,
    BatchWorkerContext,
    Config,
    Inputs,
    batch_aggregator,
    batch_analyzer,
    batch_worker,
)

#: Where files without a folder are looked for. Whoever creates a task may name any other file that the worker can read;
#: a worker with secrets beside it would refuse those outside.
FOLDER: Final = Path(__file__).parent / "csv_inventory"

FIRST_ROW: Final = 1
MILLIONTH: Final = Decimal("0.000001")

CsvFile = Annotated[Path, Inputs("csv_file_path")]


class Product(BaseModel):
    title: str
    category: str
    price: Decimal
    rating: Decimal
    stock: int


class Summary(BaseModel):
    """What one worker found in its rows."""

    batch_id: str
    start_row: int
    end_row: int
    processed_count: int
    total_inventory_value: Decimal
    category_counts: dict[str, int]
    max_price: Decimal
    max_price_product: str
    average_rating: Decimal


class Inventory(BaseModel):
    """What all of them found; of an empty file, nothing."""

    total_processed: int
    worker_count: int
    total_inventory_value: Decimal
    category_counts: dict[str, int]
    max_price: Decimal
    max_price_product: str | None
    overall_average_rating: Decimal


@batch_analyzer("examples.inventory.analyze_csv")
def analyze_csv(
    file: CsvFile,
    batch_size: Annotated[int, Config("batch_size")],
    max_workers: Annotated[int, Config("max_workers")],
) -> BatchConfig:
    """Counts the rows. A quoted field may hold newlines, so counting lines would find too many."""
    rows = sum(1 for _ in read(file))
    return BatchConfig(rows, batch_size, max_batches=max_workers, first_cursor=FIRST_ROW)


@batch_worker("examples.inventory.summarise_rows")
def summarise_rows(file: CsvFile, batch: BatchWorkerContext) -> Summary:
    """Summarises the rows from `start_cursor` to the one before `end_cursor`."""
    rows = islice(read(file), batch.start_cursor - FIRST_ROW, batch.end_cursor - FIRST_ROW)
    products = [Product.model_validate(row) for row in rows]
    dearest = max(products, key=lambda product: product.price)
    return Summary(
        batch_id=batch.batch_id,
        start_row=batch.start_cursor,
        end_row=batch.end_cursor,
        processed_count=len(products),
        total_inventory_value=sum((product.price * product.stock for product in products), Decimal(0)),
        category_counts=Counter(product.category for product in products),
        max_price=dearest.price,
        max_price_product=dearest.title,
        average_rating=mean((product.rating, 1) for product in products),
    )


@batch_aggregator("examples.inventory.aggregate", analyzer="analyze_csv", workers="process_csv_batch")
def aggregate(batches: BatchAggregationScenario) -> Inventory:
    """Adds up what can be added, and weighs the averages by the rows behind them."""
    parts = batches.results_as(Summary)
    dearest = max(parts, key=lambda part: part.max_price, default=None)
    return Inventory(
        total_processed=sum(part.processed_count for part in parts),
        worker_count=batches.worker_count,
        total_inventory_value=sum((part.total_inventory_value for part in parts), Decimal(0)),
        category_counts=sum((Counter(part.category_counts) for part in parts), Counter[str]()),
        max_price=dearest.max_price if dearest else Decimal(0),
        max_price_product=dearest.max_price_product if dearest else None,
        overall_average_rating=mean((part.average_rating, part.processed_count) for part in parts),
    )


def read(file: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a file by the names in its first line."""
    with (FOLDER / file).open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def mean(weighted: Iterable[tuple[Decimal, int]]) -> Decimal:
    """Return the mean of values and how often each counts, to a millionth; of nothing it is 0."""
    total, weight = Decimal(0), 0
    for value, times in weighted:
        total += value * times
        weight += times
    return (total / weight).quantize(MILLIONTH) if weight else Decimal(0)
