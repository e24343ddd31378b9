"""Handlers written as classes."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

from tasker.domain.errors import FieldViolation
from tasker.domain.json_schema import Schema, schema_problems
from tasker.domain.results import ErrorType
from tasker.domain.templates.offers import DEFAULT_METHOD
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.definitions import note
from tasker.worker.handlers.errors import (
    ConfigurationError,
    HandlerDefinitionError,
    HandlerMethodNotFoundError,
    RetryAfter,
    refusal,
)
from tasker.worker.handlers.handler import Handler, origin_of, text_problem
from tasker.worker.handlers.results import StepHandlerResult

#: What a class says about itself, and how it may look.
_EXAMPLES: Final = {"handler_name": "shop.payments", "handler_version": "1.0.0"}


class StepHandler(ABC):
    """A handler as a class: implement `call`, and further public methods for templates that name a `method`.

    A new instance serves each execution. If `__init__` takes `config`, it is given the template's
    `handler.initialization`; it can take nothing else that is required.

    A class that needs more is given it by you: put an instance of it into the module, `mail = Mail("localhost")`.
    Such an instance answers to its own `handler_name`, stands for its class, which is not registered besides it,
    and serves every execution, several at a time.

    Attributes:
        handler_name: What templates call it; without one the class is found by its dotted path only.
        handler_version: Stored with every result.
    """

    handler_name: str = ""
    handler_version: str = "1.0.0"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        note(cls)

    @abstractmethod
    def call(self, context: StepContext) -> Any:
        """Do the step's work and return its result; may be `async def`."""

    @property
    def name(self) -> str:
        """The handler's name, or the class's where it has none."""
        return self.handler_name or type(self).__name__

    @property
    def version(self) -> str:
        """The handler's version."""
        return self.handler_version

    @property
    def capabilities(self) -> list[str]:
        """What the handler can do: `process`, and what the mixins among its bases add."""
        added = (vars(cls).get("capability") for cls in type(self).__mro__)
        return ["process", *(name for name in added if isinstance(name, str))]

    def config_schema(self) -> dict[str, Any] | None:
        """Return a JSON Schema of the template's `handler.initialization`; asked once, before the first run.

        A configuration that breaks it fails the step permanently as `validation_error`, before anything runs.
        """
        return None

    def success(
        self, result: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Return a success."""
        return StepHandlerResult.success(result, metadata)

    def failure(
        self,
        message: str,
        error_type: str = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
        *,
        retry_after: RetryAfter | None = None,
    ) -> StepHandlerResult:
        """Return a failure."""
        return StepHandlerResult.failure(
            message, error_type, retryable, metadata, error_code, retry_after=retry_after
        )


def class_handler(
    target: type[StepHandler] | StepHandler, name: str = "", method: str | None = None
) -> Handler:
    """Compile a class, or an instance that then serves every execution, into a handler.

    Args:
        target: The class or instance.
        name: What it answers to; its own name if empty.
        method: The template's `handler.method`; None is `call`.

    Raises:
        HandlerDefinitionError: The class is abstract, its constructor wants what nobody gives, `call` takes no
            context, or its name or version is no text.
        HandlerMethodNotFoundError: There is no such public method.
    """
    cls = target if isinstance(target, type) else type(target)
    name = name or _text(target, "handler_name") or cls.__name__
    version = _text(target, "handler_version")
    method = method or DEFAULT_METHOD
    _check_method(cls, name, method)
    make: Callable[[StepContext], StepHandler]
    if isinstance(target, StepHandler):
        instance = target
        make = lambda _: instance  # noqa: E731
    else:
        make = _constructor(target, name)

    origin = origin_of(cls) if method == DEFAULT_METHOD else f"{origin_of(cls)}.{method}"
    function = getattr(cls, method)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerDefinitionError(f"handler {name!r}: {origin} is a generator; return the result")
    _check_context(cls, name, method)
    config = _ConfigCheck(name)

    def call(context: StepContext) -> object:
        handler = make(context)
        config.check(handler, context)
        return getattr(handler, method)(context)

    return Handler(name, version, inspect.iscoroutinefunction(function), call, origin)


def methods_of(target: type[StepHandler] | StepHandler) -> list[str]:
    """Return the methods that templates can name, sorted; `call` is one of them."""
    cls = target if isinstance(target, type) else type(target)
    return sorted(name for name, _ in inspect.getmembers(cls, inspect.isfunction) if _is_runnable(cls, name))


class _ConfigCheck:
    """Checks configurations against the schema of a class."""

    def __init__(self, handler_name: str) -> None:
        self._handler_name = handler_name
        self._schema: Schema | None = None
        self._is_asked = False

    def check(self, handler: StepHandler, context: StepContext) -> None:
        if not self._is_asked:
            self._schema = self._ask(handler)
            self._is_asked = True
        violations = self._schema.violations(dict(context.step_config)) if self._schema else []
        if violations:
            raise refusal(
                self._handler_name,
                [FieldViolation(f"config.{v.field}".rstrip("."), v.description) for v in violations],
            )

    def _ask(self, handler: StepHandler) -> Schema | None:
        schema = handler.config_schema()
        if schema is None:
            return None
        if problems := schema_problems(schema):
            raise ConfigurationError(
                f"handler {self._handler_name!r}: its config_schema is no JSON Schema: {'; '.join(problems)}"
            )
        return Schema(schema)


def _text(target: type[StepHandler] | StepHandler, attribute: str) -> str:
    """Return what a class or an instance says about itself; a property is nothing that a class can say."""
    value = getattr(target, attribute)
    if (problem := text_problem(value)) is not None:
        cls = target if isinstance(target, type) else type(target)
        raise HandlerDefinitionError(
            f"{origin_of(cls)}.{attribute} {problem}; make it a text, as in "
            f"`{attribute} = {_EXAMPLES[attribute]!r}`"
        )
    return str(value)


def _check_method(cls: type[StepHandler], name: str, method: str) -> None:
    if method == DEFAULT_METHOD:
        return
    if method.startswith("_"):
        raise HandlerMethodNotFoundError(name, method, "its name says it is private")
    found = getattr(cls, method, None)
    if _is_ours(cls, method) or not callable(found):
        raise HandlerMethodNotFoundError(
            name, method, f"{origin_of(cls)} has no such method; it has {', '.join(methods_of(cls))}"
        )


def _check_context(cls: type[StepHandler], name: str, method: str) -> None:
    """Refuse a method that cannot be called with the context alone; one whose signature is hidden may try."""
    found = inspect.getattr_static(cls, method)
    if not isinstance(found, FunctionType | staticmethod | classmethod):
        return
    # The function that is called, not the one that a decorator wraps: it may well leave the context out.
    signature = inspect.signature(found.__get__(object(), cls), follow_wrapped=False)
    try:
        signature.bind(None)
    except TypeError:
        problem = f"it is given the context and nothing else; write `def {method}(self, context)`"
        if method != DEFAULT_METHOD:
            raise HandlerMethodNotFoundError(name, method, problem) from None
        raise HandlerDefinitionError(f"handler {name!r}: {origin_of(cls)}.{method}: {problem}") from None


def _is_runnable(cls: type[StepHandler], method: str) -> bool:
    return method == DEFAULT_METHOD or not (method.startswith("_") or _is_ours(cls, method))


def _is_ours(cls: type[StepHandler], method: str) -> bool:
    """Tell whether a method is what `StepHandler` and the mixins offer to authors, whoever overrides it."""
    ours = (base for base in cls.__mro__ if base.__module__.startswith(f"{__package__}."))
    return any(hasattr(base, method) for base in ours)


def _constructor(cls: type[StepHandler], name: str) -> Callable[[StepContext], StepHandler]:
    """Return how to make an instance, decided by the signature once instead of by trial at each execution."""
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise HandlerDefinitionError(f"handler {name!r}: {origin_of(cls)} does not implement {missing}")
    parameters = inspect.signature(cls).parameters.values()
    takes_config = any(parameter.name == "config" for parameter in parameters)
    required = [
        parameter.name
        for parameter in parameters
        if parameter.name != "config"
        and parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if required:
        raise HandlerDefinitionError(
            f"handler {name!r}: the constructor of {origin_of(cls)} requires {', '.join(required)}; "
            f"it can take `config` or nothing; to pass more, put an instance into the module: `x = {cls.__name__}(...)`"
        )
    factory: Callable[..., StepHandler] = cls
    if takes_config:
        return lambda context: factory(config=dict(context.step_config))
    return lambda _: factory()
