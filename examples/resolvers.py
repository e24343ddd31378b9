"""One handler class with several entry points: the template's `handler.method` says which of them runs."""

from typing import Any, Final

from tasker.worker import StepContext, StepHandler, StepValidationError

#: What processing adds to an amount.
FEE: Final = 0.1


class MultiMethod(StepHandler):
    """Four public methods for four steps; `call` runs where a template names none.

    The name is what a template with `resolver: explicit_mapping` asks for: it looks among names and follows no path.
    """

    handler_name = "examples.resolvers.MultiMethod"

    def call(self, context: StepContext) -> dict[str, Any]:
        return {"invoked_method": "call", "steps_before": sorted(context.get_dependency_result_keys())}

    def validate(self, context: StepContext) -> dict[str, Any]:
        amount = context.get_input_or("data", {}).get("amount")
        if not isinstance(amount, int | float) or amount <= 0:
            raise StepValidationError(f"data.amount must be a number above 0, got {amount!r}")
        return {"invoked_method": "validate", "amount": amount}

    def process(self, context: StepContext) -> dict[str, Any]:
        amount: float = context.get_dependency_field("validate_step", "amount")
        return {"invoked_method": "process", "processed_amount": round(amount * (1 + FEE), 2)}

    async def refund(self, context: StepContext) -> dict[str, Any]:
        """A method may be async whether or not the others are."""
        return {
            "invoked_method": "refund",
            "refunded_amount": context.get_dependency_field("process_step", "processed_amount"),
            "reason": context.get_input_or("data", {}).get("reason"),
        }
