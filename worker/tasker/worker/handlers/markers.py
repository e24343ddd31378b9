"""How the author of a function says where an argument comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where an argument comes from; the value is how messages call it."""

    CONTEXT = "context"
    BATCH = "batch_context"
    BATCHES = "batches"
    DEPENDENCY = "dependencies"
    INPUT = "inputs"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Dep:
    """Marks a parameter that receives an ancestor's result: `Annotated[Stock, Dep("check_stock")]`."""

    step: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Marks a parameter that receives the task's context, or one key of it: `Annotated[Order, Inputs()]`."""

    key: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Marks a parameter that receives the template's `handler.initialization`, or one key of it."""

    key: str | None = None


Marker = Dep | Inputs | Config
