"""Handlers written as functions.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from pydantic import BaseModel

from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.definitions import note
from tasker.worker.handlers.errors import HandlerDefinitionError
from tasker.worker.handlers.handler import Handler, code_place, origin_of, text_problem
from tasker.worker.handlers.injection import Given
from tasker.worker.handlers.markers import Source
from tasker.worker.handlers.signature import Declared, compile_plan

# The function's own type, not `Callable[P, R]`: that would lose parameter kinds, overloads and `__name__`.
F = TypeVar("F", bound=Callable[..., object])

_HANDLER: Final = "__tasker_handler__"
_DECLARED: Final = "__tasker_declared__"


@dataclass(frozen=True, slots=True)
class Kind:
    """What makes functions under one decorator different from those under another.

    Attributes:
        decorator: Its name, for messages.
        given: What parameters may be given besides the contexts.
        answer: Asked first; what it returns, unless that is None, is the result, and the function is not called.
        finish: Turns what the function returned into what the step returns.
    """

    decorator: str
    given: Sequence[Given] = ()
    answer: Callable[[StepContext], object] | None = None
    finish: Callable[[object], object] | None = None


STEP: Final = Kind("step_handler")


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """What a decorator leaves on a function. It names the function, since `functools.wraps` copies marks to others."""

    function: Callable[..., object]
    handler: Handler
    decorator: str


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
    return decorator(STEP, name, version)


def decorator(kind: Kind, name: str, version: str) -> Callable[[F], F]:
    """Return a decorator that makes a function a handler of some kind.

    Raises:
        HandlerDefinitionError: Name or version is no text, or the function cannot work as a handler.
    """
    if not is_text(name):  # also `@step_handler` without its parentheses
        raise HandlerDefinitionError(
            f"@{kind.decorator} needs the handler's name: @{kind.decorator}('...'), not {name!r}"
        )
    if not is_text(version):
        raise HandlerDefinitionError(
            f"handler {name!r}: version must be a text such as '1.0.0', not {version!r}"
        )

    def mark(function: F) -> F:
        if (other := _mark_on(function)) is not None:
            raise HandlerDefinitionError(
                f"handler {name!r}: {origin_of(function)} is decorated as handler {other.handler.name!r} already; "
                "keep one of the two decorators; `registry.register(function, name=...)` gives it a second name"
            )
        setattr(
            function,
            _HANDLER,
            _Mark(function, function_handler(function, name, version, kind), kind.decorator),
        )
        note(function)
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


def function_handler(
    function: Callable[..., object], name: str, version: str = "1.0.0", kind: Kind = STEP
) -> Handler:
    """Compile a function into a handler.

    Raises:
        HandlerDefinitionError: The function cannot work as a handler.
    """
    if isinstance(function, type) or not callable(function):
        raise HandlerDefinitionError(
            f"handler {name!r}: @{kind.decorator} decorates functions, not {function!r}"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerDefinitionError(
            f"handler {name!r}: {origin_of(function)} is a generator; return the result"
        )
    plan = compile_plan(function, name, getattr(function, _DECLARED, ()), kind.given)

    def call(context: StepContext) -> object:
        if kind.answer is not None and (ready := kind.answer(context)) is not None:
            return ready
        return function(**plan.bind(context))

    is_async = inspect.iscoroutinefunction(function)
    return Handler(
        name, version, is_async, call, origin_of(function), plan, kind.finish, code_place(function)
    )


def marked_handler(target: object) -> Handler | None:
    """Return the handler that `@step_handler` made of a function, or None.

    Raises:
        HandlerDefinitionError: It made one of another function, which this one wraps and would be left out.
    """
    mark = _mark_on(target)
    if mark is None:
        return None
    if mark.function is not target:
        raise HandlerDefinitionError(
            f"handler {mark.handler.name!r}: what wraps {mark.handler.origin} above @{mark.decorator} would "
            f"never run; put @{mark.decorator} above all other decorators"
        )
    return mark.handler


def is_marked(target: object) -> bool:
    """Tell whether `marked_handler` has something to say about it."""
    return _mark_on(target) is not None


def is_text(value: object) -> bool:
    """Tell whether an argument of a decorator is a name."""
    return value != "" and text_problem(value) is None


def _mark_on(target: object) -> _Mark | None:
    try:
        found = getattr(target, _HANDLER, None)
    except Exception:  # a proxy, say, of something that is not there yet
        return None
    return found if isinstance(found, _Mark) else None  # a mock has every attribute


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
        if is_marked(function):
            raise HandlerDefinitionError(
                f"{origin_of(function)}: put @step_handler above @depends_on and @inputs, it must see them"
            )
        setattr(function, _DECLARED, (*getattr(function, _DECLARED, ()), *declared))
        return function

    return mark
