"""Finding the handler a template names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasker.worker import (
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerImportError,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
    HandlerRegistry,
    StepContext,
    StepHandler,
    load_handlers,
    step_handler,
)
from tests.unit.handlers.conftest import Run


@step_handler("shop.price", version="3.0.0")
def price() -> dict[str, Any]:
    return {"by": "function"}


class Payments(StepHandler):
    handler_name = "shop.payments"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.calls = 0

    def call(self, context: StepContext) -> Any:
        self.calls += 1
        return self.success({"by": "call", "calls": self.calls, "config": self.config})

    def refund(self, context: StepContext) -> Any:
        return {"by": "refund", "step": context.step_name}

    async def refund_later(self, context: StepContext) -> Any:
        return {"by": "refund_later", "step": context.step_name}

    def _secret(self, context: StepContext) -> Any:
        return {}


class Nameless(StepHandler):
    def call(self, context: StepContext) -> Any:
        return self.failure("not today", retryable=False)


class Demanding(StepHandler):
    handler_name = "shop.demanding"

    def __init__(self, gateway: str, config: Any = None) -> None:
        self.gateway = gateway

    def call(self, context: StepContext) -> Any:
        return {"gateway": self.gateway}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable, empty package `shelf`; what a test imports is forgotten afterwards."""
    root = tmp_path / "shelf"
    root.mkdir()
    (root / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield root
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("from tasker.worker import StepHandler, step_handler\n" + dedent(source))
    return path


def handler_source(name: str) -> str:
    return f"""
        @step_handler({name!r})
        def handle():
            return {{}}
        """


async def test_explicit_names_win_over_dotted_paths() -> None:
    path = f"{__name__}.Payments"
    registry = HandlerRegistry()
    registry.register(price, name=path)
    assert registry.resolve(path).origin.endswith(".price")


async def test_functions_classes_and_instances_register(run: Run) -> None:
    registry = HandlerRegistry()
    assert registry.register(price) == "shop.price"
    assert registry.register(Payments) == "shop.payments"
    assert registry.register(Nameless()) == "Nameless"
    assert registry.register(Demanding("stripe")) == "shop.demanding"
    assert registry.register(lambda: None, name="plain") == "plain"
    assert registry.register(price) == "shop.price"  # once more changes nothing
    assert registry.callables() == ("Nameless", "plain", "shop.demanding", "shop.payments", "shop.price")
    assert len(registry) == 5
    assert "shop.price" in registry
    assert registry.resolve("shop.price").version == "3.0.0"
    assert (await run(Demanding("stripe"))).result == {"gateway": "stripe"}
    failed = await run(Nameless)
    assert failed.error is not None
    assert (failed.error.message, failed.error.retryable) == ("not today", False)


async def test_each_execution_gets_an_instance_of_its_own_with_its_config(run: Run) -> None:
    for _ in range(2):
        result = await run(Payments, initialization={"currency": "EUR"})
        assert result.result == {"by": "call", "calls": 1, "config": {"currency": "EUR"}}


def test_what_is_no_handler_is_refused() -> None:
    registry = HandlerRegistry()
    for wrong in (len, int, object(), lambda: None):
        with pytest.raises(HandlerDefinitionError, match="no handler"):
            registry.register(wrong)
    with pytest.raises(HandlerDefinitionError, match="requires gateway"):
        registry.register(Demanding)
    with pytest.raises(HandlerDefinitionError, match="does not implement call"):
        registry.register(StepHandler, name="abstract")
    with pytest.raises(HandlerDefinitionError, match="'x' has no source"):
        registry.register(lambda x: None, name="plain")
    assert len(registry) == 0


def test_two_handlers_cannot_share_a_name() -> None:
    registry = HandlerRegistry()
    registry.register(price)
    with pytest.raises(DuplicateHandlerError, match=r"'shop.price' is taken by .*price") as caught:
        registry.register(Payments, name="shop.price")
    assert caught.value.name == "shop.price"


def test_an_unknown_name_lists_the_known_ones() -> None:
    registry = HandlerRegistry()
    registry.register(price)
    registry.register(Payments)
    for unknown in ("shop.charge", "charge", "no_such_module.Charge", f"{__name__}.Charge", "not a path"):
        with pytest.raises(HandlerNotFoundError, match=r"known: shop.payments, shop.price$") as caught:
            registry.resolve(unknown)
        assert caught.value.callable_name == unknown
        assert caught.value.known == ("shop.payments", "shop.price")
        assert caught.value.error_type == "handler_not_found"
    with pytest.raises(HandlerNotFoundError, match="known: none"):
        HandlerRegistry().resolve("x")
    many = HandlerNotFoundError("x", [f"h{n:02}" for n in range(30)])
    assert str(many).endswith("h19 and 10 more")


def test_a_dotted_path_finds_classes_instances_and_decorated_functions() -> None:
    registry = HandlerRegistry()
    assert registry.resolve(f"{__name__}.Nameless").origin == f"{__name__}.Nameless"
    assert registry.resolve(f"{__name__}.price").version == "3.0.0"
    assert registry.resolve(f"{__name__}.price") is registry.resolve(f"{__name__}.price")
    assert f"{__name__}.price" in registry.callables()
    for no_handler in ("os.getcwd", f"{__name__}.handler_source", f"{__name__}.Demanding"):
        with pytest.raises(HandlerNotFoundError):
            registry.resolve(no_handler)


@pytest.mark.parametrize("method", ["refund", "refund_later"])
async def test_a_template_may_name_a_method(run: Run, method: str) -> None:
    result = await run(Payments, method=method)
    assert result.result == {"by": method, "step": "the_step"}


@pytest.mark.parametrize(
    "method", ["_secret", "__init__", "nothing", "handler_name", "success", "config_schema"]
)
def test_a_private_or_missing_method_is_an_error_of_its_own(method: str) -> None:
    registry = HandlerRegistry()
    registry.register(Payments)
    registry.register(price)
    for name in ("shop.payments", "shop.price"):
        with pytest.raises(HandlerMethodNotFoundError) as caught:
            registry.resolve(name, method)
        assert caught.value.error_type == "handler_method_not_found"
        assert name in str(caught.value)
    with pytest.raises(HandlerMethodNotFoundError, match="it has call, refund, refund_later"):
        registry.resolve("shop.payments", "nothing")


def test_discovery_finds_each_handler_once_and_survives_broken_modules(package: Path) -> None:
    write(package / "cards.py", handler_source("charge"))
    write(
        package / "deep" / "__init__.py",
        """
        from shelf.cards import handle
        from shelf.classes import Ship
        """,
    )
    write(
        package / "classes.py",
        """
        class Base(StepHandler):
            pass
        class Ship(Base):
            handler_name = "ship"
            def call(self, context):
                return {}
        class Derived(Ship):
            pass
        """,
    )
    write(package / "deep" / "late.py", handler_source("late"))
    write(package / "broken.py", "raise RuntimeError('on purpose')")
    write(package / "exits.py", "raise SystemExit(2)")
    write(package / "needs.py", "import no_such_library")
    write(package / "twin.py", handler_source("charge"))
    write(package / "__main__.py", "raise RuntimeError('a script')")

    registry = HandlerRegistry()
    found = registry.discover("shelf")
    assert sorted(found.handlers) == ["charge", "late", "ship"]
    assert registry.callables() == ("charge", "late", "ship")
    assert [problem.where for problem in found.problems] == [
        "shelf.broken",
        "shelf.exits",
        "shelf.needs",
        "shelf.twin.handle",
    ]
    assert "on purpose" in str(found.problems[0])
    assert isinstance(found.problems[3].error, DuplicateHandlerError)

    again = registry.discover(sys.modules["shelf"])
    assert again.handlers == found.handlers
    assert len(registry) == 3


def test_a_broken_module_behind_a_dotted_path_is_reported_not_missed(package: Path) -> None:
    write(package / "needs.py", "import no_such_library")
    registry = HandlerRegistry()
    with pytest.raises(
        HandlerImportError, match=r"'shelf.needs' does not import: .*no_such_library"
    ) as caught:
        registry.resolve("shelf.needs.Handler")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    for missing in ("shelf.nothing.Handler", "shelf.needs.deeper.Handler"):
        with pytest.raises((HandlerNotFoundError, HandlerImportError)):
            registry.resolve(missing)
    with pytest.raises(HandlerNotFoundError, match=r"no module 'shelf.nothing'"):
        registry.resolve("shelf.nothing.Handler")


def test_a_handler_module_that_does_not_import_says_so(package: Path) -> None:
    broken = write(package / "broken.py", "def inner():\n    raise RuntimeError('on purpose')\ninner()\n")
    for where in ("shelf", "shelf.broken", broken, str(broken), package):
        with pytest.raises(
            HandlerImportError, match=r"'shelf.broken' does not import: .*on purpose"
        ) as caught:
            load_handlers(where)
        cause = caught.value.__cause__
        assert isinstance(cause, RuntimeError)
        assert cause.__traceback__ is not None
        assert caught.value.module == "shelf.broken"
    with pytest.raises(HandlerImportError, match="'no_such_package' does not import"):
        load_handlers("no_such_package")
    with pytest.raises(HandlerImportError, match=r"nowhere.py does not exist"):
        load_handlers(package / "nowhere.py")


def test_a_broken_module_among_others_does_not_stop_the_start(package: Path) -> None:
    write(package / "cards.py", handler_source("charge"))
    write(package / "broken.py", "raise RuntimeError('on purpose')")
    for _ in range(2):  # also if its handlers are registered already
        registry = load_handlers("shelf")
        load_handlers("shelf", registry=registry)
        assert registry.callables() == ("charge",)
        assert "on purpose" in str(registry.problems[0])
    with pytest.raises(HandlerNotFoundError, match=r"known: charge; left out: .*'shelf.broken'.*on purpose"):
        registry.resolve("ship")
    # A place that has nothing else is one that nobody would miss silently.
    with pytest.raises(HandlerImportError, match="on purpose"):
        load_handlers("shelf.cards", "shelf.broken")


def test_two_handlers_of_one_name_stop_the_start(package: Path) -> None:
    write(package / "cards.py", handler_source("charge"))
    write(package / "twin.py", handler_source("charge"))
    with pytest.raises(DuplicateHandlerError, match=r"'charge' is taken by shelf.cards.handle"):
        load_handlers("shelf")


def test_all_problems_are_told_not_only_the_first(package: Path) -> None:
    write(package / "a.py", "raise RuntimeError('first')")
    write(package / "b.py", "raise RuntimeError('second')")
    with pytest.raises(HandlerImportError, match="first") as caught:
        load_handlers("shelf")
    assert ["second" in note for note in caught.value.__notes__] == [True]


def test_handlers_load_from_files_and_directories(package: Path, tmp_path: Path) -> None:
    write(package / "cards.py", handler_source("charge"))
    loose = tmp_path / "loose"
    write(loose / "handlers.py", "import neighbour\n" + dedent(handler_source("loose")))
    write(loose / "neighbour.py", "")
    other = write(tmp_path / "other" / "handlers.py", handler_source("other"))

    assert load_handlers(package / "cards.py").callables() == ("charge",)
    assert load_handlers(package).callables() == ("charge",)
    assert load_handlers("shelf").callables() == ("charge",)
    assert load_handlers("shelf.cards").callables() == ("charge",)
    assert load_handlers(tmp_path).callables() == ("charge", "other")

    registry = HandlerRegistry()
    load_handlers(loose, str(other), "shelf", registry=registry)  # two files of one name are two modules
    load_handlers(other, registry=registry)  # and one file is one module
    assert registry.callables() == ("charge", "loose", "other")
