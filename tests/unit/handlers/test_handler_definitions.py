"""What cannot work as a handler is refused when it is defined or registered, by a message that names the fix."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasker.worker import (
    Decision,
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
    HandlerRegistry,
    StepContext,
    StepHandler,
    decision_handler,
    load_handlers,
    step_handler,
)
from tests.unit.handlers.conftest import Run


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Writes modules of handlers; what a test imports is forgotten afterwards."""
    paths_before = list(sys.path)

    def write(source: str, name: str = "defined_handlers.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        head = "import functools\nfrom tasker.worker import StepHandler, step_handler\n"
        path.write_text(head + dedent(source))
        return path

    yield write
    sys.path[:] = paths_before
    for name, imported in list(sys.modules.items()):
        if str(getattr(imported, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


# What a class says about itself


class Charge(StepHandler):
    handler_name = "charge"

    def call(self, context: StepContext) -> Any:
        return {"version": self.handler_version}


@pytest.mark.parametrize("attribute", ["handler_name", "handler_version"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (property(lambda _: "charge"), "is of type property"),
        (7, "is of type int"),
        (None, "is of type NoneType"),
        ("secret\x00", "holds a NUL character, which PostgreSQL cannot store"),
        ("secret\ud800", "holds half of a surrogate pair, which is no character"),
    ],
)
def test_a_name_or_version_that_is_no_text(attribute: str, value: object, problem: str) -> None:
    wrong = type("Wrong", (Charge,), {"__module__": __name__, attribute: value})
    registry = HandlerRegistry()
    with pytest.raises(HandlerDefinitionError) as refused:
        registry.register(wrong)
    message = str(refused.value)
    assert f"{__name__}.Wrong.{attribute} {problem}; make it a text, as in `{attribute} = '" in message
    assert "secret" not in message
    assert registry.callables() == ()


@pytest.mark.parametrize("attribute", ["handler_name", "handler_version"])
def test_a_property_as_name_or_version_stops_the_start(attribute: str, module: Callable[[str], Path]) -> None:
    path = module(f"""
        class Charge(StepHandler):
            handler_name = "charge"
            @property
            def {attribute}(self):
                return "2.0.0"
            def call(self, context):
                return {{}}
        """)
    with pytest.raises(HandlerDefinitionError, match=rf"Charge\.{attribute} is of type property; make it"):
        load_handlers(path)


def test_a_version_that_is_no_text_makes_a_dotted_path_none() -> None:
    with pytest.raises(HandlerNotFoundError, match=r"Unversioned\.handler_version is of type float"):
        HandlerRegistry().resolve(f"{__name__}.Unversioned")


class Unversioned(Charge):
    handler_version = 1.5  # type: ignore[assignment]


def test_a_name_given_at_the_registration_is_a_text_too() -> None:
    registry = HandlerRegistry()
    for wrong in (7, "", "a\x00b"):
        with pytest.raises(
            HandlerDefinitionError, match=r"needs a text as its name, as in `name='shop\.charge'`"
        ):
            registry.register(Charge, name=wrong)  # type: ignore[arg-type]
    assert registry.callables() == ()


def test_decorators_take_only_text_that_can_be_stored() -> None:
    with pytest.raises(HandlerDefinitionError, match="needs the handler's name"):
        step_handler("a\x00b")
    with pytest.raises(HandlerDefinitionError, match="version must be a text"):
        step_handler("a", "1\x00")


# What a method takes


def test_a_call_without_context_is_refused() -> None:
    class Forgetful(Charge):
        def call(self) -> Any:  # type: ignore[override]
            return {}

    class Greedy(Charge):
        async def call(self, context: StepContext, order: Any) -> Any:  # type: ignore[override]
            return {}

    class Static(Charge):
        @staticmethod
        def call() -> Any:  # type: ignore[override]
            return {}

    for wrong in (Forgetful, Greedy, Static, Forgetful()):
        with pytest.raises(
            HandlerDefinitionError, match=r"handler 'charge': .*\.call: .*write `def call\(self, context\)`"
        ):
            HandlerRegistry().register(wrong)


def test_a_method_without_context_fails_its_step() -> None:
    class Refunds(Charge):
        def refund(self) -> Any:
            return {}

    registry = HandlerRegistry()
    registry.register(Refunds)
    with pytest.raises(HandlerMethodNotFoundError, match=r"write `def refund\(self, context\)`"):
        registry.resolve("charge", "refund")


def without_context(function: Callable[[Any], Any]) -> Any:
    @functools.wraps(function)
    def wrapper(self: Any, context: StepContext) -> Any:
        return function(self)

    return wrapper


async def test_whatever_takes_the_context_is_a_call(run: Run) -> None:
    class Static(Charge):
        @staticmethod
        def call(context: StepContext) -> Any:
            return {"step": context.step_name}

    class OfTheClass(Charge):
        @classmethod
        async def call(cls, context: StepContext, *more: Any, **options: Any) -> Any:
            return {"step": context.step_name}

    class Wrapped(Charge):
        @without_context
        def call(self) -> Any:
            return {"step": "the_step"}

    for fine in (Static, OfTheClass, Wrapped):
        assert (await run(fine)).result == {"step": "the_step"}


# What decorators do to each other


def traced(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        return {**value, "traced": True}

    return wrapper


@step_handler("plain")
def plain() -> dict[str, Any]:
    return {}


hidden = traced(plain)
cached = functools.cache(plain)


@pytest.mark.parametrize("name", ["hidden", "cached"])
def test_a_decorator_above_ours_is_refused(name: str) -> None:
    problem = (
        r"handler 'plain': what wraps .*\.plain .* never run; put @step_handler above all other decorators"
    )
    wrapper = globals()[name]
    for registration in ({}, {"name": "another"}):
        with pytest.raises(HandlerDefinitionError, match=problem):
            HandlerRegistry().register(wrapper, **registration)
    with pytest.raises(HandlerNotFoundError, match=problem):
        HandlerRegistry().resolve(f"{__name__}.{name}")


def test_a_decorator_above_ours_stops_the_start(module: Callable[[str], Path]) -> None:
    path = module("""
        def traced(function):
            @functools.wraps(function)
            def wrapper():
                return function()
            return wrapper
        @traced
        @step_handler("price")
        def price():
            return {}
        """)
    with pytest.raises(HandlerDefinitionError, match="put @step_handler above all other decorators"):
        load_handlers(path)


async def test_a_decorator_below_ours_runs(run: Run) -> None:
    @step_handler("seen")
    @traced
    def seen() -> dict[str, Any]:
        return {}

    assert (await run(seen)).result == {"traced": True}


def test_a_second_decorator_of_ours_is_refused() -> None:
    def decide() -> Decision:
        return Decision.skip("nothing to do")

    decision_handler("two")(decide)
    for function in (decide, traced(decide)):
        with pytest.raises(HandlerDefinitionError, match=r"'one': .*is decorated as handler 'two' already"):
            step_handler("one")(function)


async def test_another_name_takes_nothing_from_a_handler(run: Run) -> None:
    @decision_handler("decide", version="3.0.0")
    async def decide() -> Any:
        return {"no": "decision"}

    registry = HandlerRegistry()
    assert registry.register(decide, name="shop.decide") == "shop.decide"
    renamed, own = registry.resolve("shop.decide"), HandlerRegistry()
    own.register(decide)
    assert (renamed.name, renamed.version) == ("shop.decide", "3.0.0")
    assert renamed.finish is own.resolve("decide").finish is not None


# Instances


MAIL = """
    class Mail(StepHandler):
        handler_name = "mail"
        def __init__(self, server):
            self.server = server
        async def call(self, context):
            return {"server": self.server}
    """


def served(registry: HandlerRegistry, name: str, context: StepContext) -> Awaitable[Any]:
    handler = registry.resolve(name)
    answer: Awaitable[Any] = handler.call(context)
    return answer


async def test_an_instance_stands_for_its_class(
    module: Callable[[str], Path], new_context: Callable[[], StepContext]
) -> None:
    registry = load_handlers(module(MAIL + "\n    mail = Mail('localhost')\n"))
    assert registry.callables() == ("mail",)
    assert await served(registry, "mail", new_context()) == {"server": "localhost"}


def test_a_class_that_wants_more_says_how(module: Callable[[str], Path]) -> None:
    with pytest.raises(
        HandlerDefinitionError,
        match=r"requires server; .*put an instance into the module: `x = Mail\(\.\.\.\)`",
    ):
        load_handlers(module(MAIL))


async def test_each_instance_has_its_own_name_and_version(
    module: Callable[[str], Path], new_context: Callable[[], StepContext]
) -> None:
    path = module("""
        class Mail(StepHandler):
            def __init__(self, server, version):
                self.handler_name = f"mail.{server}"
                self.handler_version = version
            async def call(self, context):
                return {"name": self.name}
        near, far = Mail("near", "1.0.0"), Mail("far", "2.0.0")
        """)
    registry = load_handlers(path)
    assert registry.callables() == ("mail.far", "mail.near")
    for name, version in (("mail.near", "1.0.0"), ("mail.far", "2.0.0")):
        assert registry.resolve(name).version == version
        assert await served(registry, name, new_context()) == {"name": name}


def test_an_instance_may_stand_in_another_module_of_the_package(
    module: Callable[..., Path], tmp_path: Path
) -> None:
    module("", "post/__init__.py")
    module(MAIL, "post/mail.py")
    module("from post.mail import Mail\nmail = Mail('localhost')\n", "post/servers.py")
    assert load_handlers(tmp_path / "post").callables() == ("mail",)


def test_two_instances_need_two_names(module: Callable[[str], Path]) -> None:
    path = module(MAIL + "\n    near, far = Mail('near'), Mail('far')\n")
    with pytest.raises(
        DuplicateHandlerError,
        match=r"'mail' is taken by an instance of \S+\.Mail, so an instance of \S+\.Mail",
    ):
        load_handlers(path)


def test_an_instance_of_a_derived_class_leaves_the_other_alone(module: Callable[[str], Path]) -> None:
    path = module("""
        class Mail(StepHandler):
            handler_name = "mail"
            def call(self, context):
                return {}
        class Other(Mail):
            handler_name = "other"
        other = Other()
        """)
    assert load_handlers(path).callables() == ("mail", "other")


def test_an_instance_whose_name_is_no_text_is_refused(module: Callable[[str], Path]) -> None:
    path = module(MAIL + "\n    mail = Mail('localhost')\n    mail.handler_name = 5\n")
    with pytest.raises(HandlerDefinitionError, match=r"Mail\.handler_name is of type int; make it a text"):
        load_handlers(path)
