"""Reading a function's signature into an injection plan, once, when the function is defined.

`@depends_on`/`@inputs` and the `Annotated` markers are two spellings of one plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from tasker.worker.handlers.batch_context import BatchWorkerContext
from tasker.worker.handlers.context import StepContext
from tasker.worker.handlers.errors import HandlerDefinitionError
from tasker.worker.handlers.injection import Given, Injection, InjectionPlan, WhenMissing
from tasker.worker.handlers.markers import Config, Dep, Inputs, Marker, Source

#: What parameters of every handler are given.
_ALWAYS_GIVEN: Final = (
    Given(Source.CONTEXT, StepContext, ("context", "_context"), lambda context: context),
    Given(Source.BATCH, BatchWorkerContext, ("batch_context",), BatchWorkerContext.of),
)

_UNIONS: Final = (Union, UnionType)
_UNTYPED: Final = (Any, object)


@dataclass(frozen=True, slots=True)
class Declared:
    """One parameter that a decorator speaks for; `model` is None where the parameter's annotation decides."""

    parameter: str
    source: Source
    key: str | None
    model: Any = None


def compile_plan(
    function: Callable[..., Any],
    handler_name: str,
    declared: Sequence[Declared] = (),
    given: Sequence[Given] = (),
) -> InjectionPlan:
    """Return the plan of a function, or say what is wrong with its signature.

    Args:
        function: The handler.
        handler_name: Its name, for messages.
        declared: What decorators say about its parameters.
        given: What this kind of handler is given besides the contexts.

    Raises:
        HandlerDefinitionError: A parameter has no source or two, or a type that cannot be validated.
    """
    return _Compiler(function, handler_name, (*_ALWAYS_GIVEN, *given)).plan(declared)


@dataclass(frozen=True, slots=True)
class _Compiler:
    function: Callable[..., Any]
    handler_name: str
    given: tuple[Given, ...]

    def plan(self, declared: Sequence[Declared]) -> InjectionPlan:
        spoken_for: dict[str, Declared] = {}
        for one in declared:
            if spoken_for.setdefault(one.parameter, one) is not one:
                raise self._broken(f"decorators give parameter {one.parameter!r} two sources")

        injections: list[Injection] = []
        takes_any_keyword = False
        for parameter in inspect.signature(self.function).parameters.values():
            match parameter.kind:
                case Parameter.VAR_KEYWORD:
                    takes_any_keyword = True
                case Parameter.VAR_POSITIONAL:
                    pass
                case Parameter.POSITIONAL_ONLY:
                    raise self._broken(
                        f"parameter {parameter.name!r} is positional-only; arguments go by name"
                    )
                case _:
                    injection = self._injection(parameter, spoken_for.pop(parameter.name, None))
                    injections.extend([injection] if injection else [])
        for one in spoken_for.values():
            if not takes_any_keyword:
                raise self._broken(f"a decorator names {one.parameter!r}, which is no parameter of it")
            injections.append(self._declared(Parameter(one.parameter, Parameter.KEYWORD_ONLY), one, Any))
        return InjectionPlan(self.handler_name, tuple(injections))

    def _injection(self, parameter: Parameter, declared: Declared | None) -> Injection | None:
        """Return how a parameter gets its argument; None leaves it to its own default."""
        name = parameter.name
        by_name = None if declared else next((given for given in self.given if name in given.names), None)
        try:
            hint = self._hint(parameter)
        except (NameError, SyntaxError, TypeError) as exc:
            if by_name:  # `StepContext` imported for the type checker alone
                return _gift(name, by_name, optional=True)
            raise self._broken(
                f"the annotation of parameter {name!r} cannot be evaluated ({exc}); what it names must be "
                "there at run time: not imported under TYPE_CHECKING, not local to a function"
            ) from exc
        kind, marker = self._split_marker(name, hint)
        if marker is not None:
            if declared is not None:
                raise self._broken(
                    f"parameter {name!r} has a source in its annotation and one in a decorator"
                )
            return self._marked(parameter, marker, kind)
        if declared is not None:
            return self._declared(parameter, declared, kind)
        for given in self.given:
            if _is_of(given.kind, kind):
                return _gift(name, given, optional=_allows_none(kind))
        if by_name:
            if kind not in _UNTYPED:
                raise self._broken(
                    f"parameter {name!r} receives the {by_name.kind.__name__}, so it cannot be {hint}"
                )
            return _gift(name, by_name, optional=True)
        if parameter.default is Parameter.empty:
            raise self._broken(
                f"parameter {name!r} has no source: annotate it with Dep, Inputs or Config, name it in "
                "@depends_on or @inputs, call it `context`, or give it a default"
            )
        return None

    def _marked(self, parameter: Parameter, marker: object, kind: Any) -> Injection:
        match marker:
            case Dep(str(step)) if step:
                source, key = Source.DEPENDENCY, step
            case Inputs(str() | None as key):
                source = Source.INPUT
            case Config(str() | None as key):
                source = Source.CONFIG
            case type():
                raise self._broken(
                    f"parameter {parameter.name!r} names {marker.__name__} without calling it; "
                    f"write {marker.__name__}()"
                )
            case _:
                raise self._broken(f"{marker!r} of parameter {parameter.name!r} needs a name as text")
        return self._typed(parameter, source, key, kind, optional=_allows_none(kind))

    def _declared(self, parameter: Parameter, declared: Declared, kind: Any) -> Injection:
        model = kind if declared.model is None else declared.model
        # missing means None, wherever no type says otherwise.
        optional = model in _UNTYPED or _allows_none(model) or _allows_none(kind)
        return self._typed(parameter, declared.source, declared.key, model, optional=optional)

    def _typed(
        self, parameter: Parameter, source: Source, key: str | None, kind: Any, *, optional: bool
    ) -> Injection:
        if parameter.default is not Parameter.empty:
            when_missing = WhenMissing.USE_DEFAULT
        else:
            when_missing = WhenMissing.GIVE_NONE if optional else WhenMissing.REFUSE
        return Injection(parameter.name, source, key, when_missing, self._adapter(parameter.name, kind))

    def _hint(self, parameter: Parameter) -> Any:
        """Return an annotation as a type, Any without one; the function's others need not make sense."""
        if parameter.annotation is Parameter.empty:
            return Any
        alone: Any = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        names = getattr(inspect.unwrap(self.function), "__globals__", {})
        return get_type_hints(alone, globalns=names, include_extras=True)[parameter.name]

    def _split_marker(self, parameter: str, hint: Any) -> tuple[Any, object]:
        """Return a type without our marker, and the marker, also from `Annotated[T, Dep(...)] | None`."""
        origin = get_origin(hint)
        kind: Any
        if origin is Annotated:
            plain, *extras = get_args(hint)
            markers = [extra for extra in extras if _is_marker(extra)]
            others = [extra for extra in extras if not _is_marker(extra)]
            kind = Annotated[(plain, *others)] if others else plain
        elif origin in _UNIONS:
            arms = [self._split_marker(parameter, arm) for arm in get_args(hint)]
            markers = [marker for _, marker in arms if marker is not None]
            kind = Union[tuple(arm for arm, _ in arms)]  # noqa: UP007 - built at run time
        else:
            return hint, None
        if len(markers) > 1:
            raise self._broken(f"the annotation of parameter {parameter!r} names more than one source")
        return (kind, markers[0]) if markers else (hint, None)

    def _adapter(self, parameter: str, kind: Any) -> TypeAdapter[Any] | None:
        if kind in _UNTYPED:
            return None
        try:
            return TypeAdapter(kind)
        except (PydanticUserError, PydanticUndefinedAnnotation) as exc:
            reason = str(exc).partition("\n")[0]
            raise self._broken(
                f"parameter {parameter!r} has a type that cannot be validated: {reason}"
            ) from exc

    def _broken(self, what: str) -> HandlerDefinitionError:
        return HandlerDefinitionError(f"handler {self.handler_name!r}: {what}")


def _is_marker(extra: object) -> bool:
    return isinstance(extra, Marker) or extra in (Dep, Inputs, Config)


def _gift(parameter: str, given: Given, *, optional: bool) -> Injection:
    when_missing = WhenMissing.GIVE_NONE if optional else WhenMissing.REFUSE
    return Injection(parameter, given.source, when_missing=when_missing, find=given.find)


def _is_of(wanted: type, kind: Any) -> bool:
    return kind is wanted or (get_origin(kind) in _UNIONS and set(get_args(kind)) == {wanted, NoneType})


def _allows_none(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _allows_none(get_args(kind)[0])
    return kind in (None, NoneType) or (
        get_origin(kind) in _UNIONS and any(_allows_none(arm) for arm in get_args(kind))
    )
