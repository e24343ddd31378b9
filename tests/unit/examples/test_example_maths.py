"""The handlers of the sequences."""

from __future__ import annotations

import pytest

from examples import maths
from tasker.worker import ConfigurationError, PermanentError
from tests.unit.examples.contexts import context, result


def test_square_takes_the_number_at_a_root_and_the_parent_elsewhere() -> None:
    assert result(maths.Square(), context({"even_number": 6})) == {"value": "36", "operation": "square"}
    further = context({"even_number": 6}, ("b",), a={"value": "36"}, b={"value": str(10**40)})
    assert result(maths.Square(), further)["value"] == str(10**80)


def test_multiply_and_square_takes_direct_parents_only() -> None:
    joined = context({"even_number": 6}, ("b", "c"), a={"value": "36"}, b={"value": "2"}, c={"value": "3"})
    assert result(maths.MultiplyAndSquare(), joined) == {"value": "36", "operation": "multiply_and_square"}


@pytest.mark.parametrize("number", [5, "6", None, 6.0, True])
def test_a_number_that_is_not_even_fails_for_good(number: object) -> None:
    with pytest.raises(PermanentError) as caught:
        maths.Square().call(context({"even_number": number}))
    assert caught.value.error_code == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("operation", "operand", "value"), [("add", 10, "46"), ("multiply", 3, "108"), ("divide", 2, "18")]
)
def test_an_operation_comes_from_the_template(operation: str, operand: int, value: str) -> None:
    handler = maths.Arithmetic({"operation": operation, "operand": operand})
    at_hand = context({}, ("before",), before={"value": "36"})
    assert result(handler, at_hand) == {"value": value, "operation": operation}


def test_a_quotient_that_is_no_integer_fails_for_good() -> None:
    handler = maths.Arithmetic({"operation": "divide", "operand": 5})
    with pytest.raises(PermanentError, match="36 is not a multiple of 5"):
        handler.call(context({}, ("before",), before={"value": "36"}))


def test_an_unknown_operation_is_the_templates_mistake() -> None:
    with pytest.raises(ConfigurationError, match="add, multiply, divide"):
        maths.Arithmetic({"operation": "guess", "operand": 5})
