"""Handlers of the sequences: numbers are squared and multiplied on their way through a graph.

The results soon pass 2^53, where JSON readers begin to round, so they travel as decimal strings.
"""

from math import prod

from tasker.worker import StepContext, StepHandler, StepValidationError


class Square(StepHandler):
    """n², of the task's even number at a root, of the parent's result anywhere else."""

    def call(self, context: StepContext) -> dict[str, str]:
        (number,) = operands(context)
        return {"value": str(number**2), "operation": "square"}


class MultiplyAndSquare(StepHandler):
    """(a * b * ...)² over the results of all parents: what joins branches."""

    def call(self, context: StepContext) -> dict[str, str]:
        return {"value": str(prod(operands(context)) ** 2), "operation": "multiply_and_square"}


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
