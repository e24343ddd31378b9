"""Handlers written as functions (spec 30 sections 5 and 13).

```python
@step_handler("price_cart")
async def price_cart(
    order: Annotated[Order, Inputs()], stock: Annotated[Stock, Dep("check_stock")]
) -> PricedCart: ...
```

The decorators only mark the function, which stays what it was: a registry collects marked functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from pydantic import BaseModel

from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import HandlerDefinitionError
from tasker.worker.handlers.handler import Handler, origin_of
from tasker.worker.handlers.markers import Source
from tasker.worker.handlers.signature import Declared, compile_plan

# The function's own type, not `Callable[P, R]`: that would lose parameter kinds, overloads and `__name__`.
F = TypeVar("F", bound=Callable[..., object])

_HANDLER: Final = "__tasker_handler__"
_DECLARED: Final = "__tasker_declared__"

#: A dependency by step name alone, or with the model its result is read into.
DependencySpec = str | tuple[str, Any]


def step_handler(name: str, version: str = "1.0.0") -> Callable[[F], F]:
    """Make a function the handler `name`; the outermost of the decorators.

    Every parameter needs a source: an `Annotated` marker (`Dep`, `Inputs`, `Config`), `@depends_on` or
    `@inputs`, the name `context` or the type `StepContext`; parameters with a default may go without.
    Required values that are missing, and values that do not fit their type, fail the step permanently as
    `validation_error` before the function is called.

    Args:
        name: What templates call it in `handler.callable`.
        version: Stored with every result as `metadata.handler_version`.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler; the message says why.
    """
    if not _is_text(name):  # also `@step_handler` without its parentheses
        raise HandlerDefinitionError(
            f"@step_handler needs the handler's name: @step_handler('...'), not {name!r}"
        )
    if not _is_text(version):
        raise HandlerDefinitionError(
            f"handler {name!r}: version must be a text such as '1.0.0', not {version!r}"
        )

    def mark(function: F) -> F:
        setattr(function, _HANDLER, function_handler(function, name, version))
        return function

    return mark


def depends_on(**dependencies: DependencySpec) -> Callable[[F], F]:
    """Pass results of ancestor steps: `param="step"`, or `param=("step", Model)` to read it into a model.

    Without a model, and without an annotation on the parameter, the bare result is passed, None if there is
    none.
    """
    return _declare([_dependency(parameter, spec) for parameter, spec in dependencies.items()])


@overload
def inputs(model: type[BaseModel], /) -> Callable[[F], F]: ...
@overload
def inputs(*keys: str) -> Callable[[F], F]: ...
def inputs(*wanted: Any) -> Callable[[F], F]:
    """Pass the task's context: each key as the parameter of its name, or all of it as `inputs: Model`."""
    match wanted:
        case (type() as model,):
            return _declare([Declared("inputs", Source.INPUT, None, model)])
        case () | ("", *_):
            raise HandlerDefinitionError("@inputs needs the keys of the task's context to pass, or one model")
    if not all(isinstance(key, str) and key.isidentifier() for key in wanted):
        raise HandlerDefinitionError(f"@inputs takes names of parameters, or one model alone, not {wanted!r}")
    return _declare([Declared(key, Source.INPUT, key) for key in wanted])


def function_handler(function: Callable[..., object], name: str, version: str = "1.0.0") -> Handler:
    """Compile a function into a handler.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler.
    """
    if isinstance(function, type) or not callable(function):
        raise HandlerDefinitionError(f"handler {name!r}: @step_handler decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerDefinitionError(
            f"handler {name!r}: {origin_of(function)} is a generator; return the result"
        )
    plan = compile_plan(function, name, getattr(function, _DECLARED, ()))

    def call(context: StepContext) -> object:
        return function(**plan.bind(context))

    return Handler(name, version, inspect.iscoroutinefunction(function), call, origin_of(function), plan)


def marked_handler(target: object) -> Handler | None:
    """Return the handler that `@step_handler` made of a function, or None."""
    found = getattr(target, _HANDLER, None)
    return found if isinstance(found, Handler) else None  # a mock has every attribute


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _dependency(parameter: str, spec: object) -> Declared:
    match spec:
        case str(step) if step:
            return Declared(parameter, Source.DEPENDENCY, step)
        case (str(step), model) if step and model is not None:
            return Declared(parameter, Source.DEPENDENCY, step, model)
    raise HandlerDefinitionError(
        f"@depends_on({parameter}=...) takes the name of a step, or (name, model), not {spec!r}"
    )


def _declare(declared: list[Declared]) -> Callable[[F], F]:
    def mark(function: F) -> F:
        if marked_handler(function) is not None:
            raise HandlerDefinitionError(
                f"{origin_of(function)}: put @step_handler above @depends_on and @inputs, it must see them"
            )
        setattr(function, _DECLARED, (*getattr(function, _DECLARED, ()), *declared))
        return function

    return mark
