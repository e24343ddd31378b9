"""Handlers of the sequences: numbers are squared and multiplied on their way through a graph.

The results soon pass 2^53, where JSON readers begin to round, so they travel as decimal strings.
"""

from collections.abc import Callable, Mapping
from math import prod
from operator import add, mul
from typing import Any, Final

from tasker.worker import ConfigurationError, StepContext, StepHandler, StepValidationError


class Square(StepHandler):
    """n², of the task's even number at a root, of the parent's result anywhere else."""

    def call(self, context: StepContext) -> dict[str, str]:
        (number,) = operands(context)
        return {"value": str(number**2), "operation": "square"}


class MultiplyAndSquare(StepHandler):
    """(a * b * ...)² over the results of all parents: what joins branches."""

    def call(self, context: StepContext) -> dict[str, str]:
        return {"value": str(prod(operands(context)) ** 2), "operation": "multiply_and_square"}


class Arithmetic(StepHandler):
    """One operation on the parent's result and a fixed number; the template's `initialization` names both."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.operation: str = config["operation"]
        self.operand: int = config["operand"]
        if self.operation not in OPERATIONS:
            raise ConfigurationError(
                f"initialization.operation must be one of {', '.join(OPERATIONS)}, got {self.operation!r}"
            )

    def call(self, context: StepContext) -> dict[str, str]:
        (number,) = operands(context)
        return {
            "value": str(OPERATIONS[self.operation](number, self.operand)),
            "operation": self.operation,
        }


def operands(context: StepContext) -> list[int]:
    """Return the numbers a step works on."""
    if not context.dependencies:
        return [even_number(context)]
    return [int(context.get_dependency_field(parent, "value")) for parent in context.dependencies]


def even_number(context: StepContext) -> int:
    """Return the task's number. The template's schema says the same; a handler does not rely on that."""
    number = context.get_input("even_number")
    if not isinstance(number, int) or isinstance(number, bool) or number % 2:
        raise StepValidationError(
            f"even_number must be an even integer, got {number!r}", error_code="VALIDATION_ERROR"
        )
    return number


def divide(number: int, divisor: int) -> int:
    """Return the quotient; there are no fractions here."""
    quotient, remainder = divmod(number, divisor)
    if remainder:
        raise StepValidationError(f"{number} is not a multiple of {divisor}", error_code="VALIDATION_ERROR")
    return quotient


OPERATIONS: Final[Mapping[str, Callable[[int, int], int]]] = {"add": add, "multiply": mul, "divide": divide}
