"""Finding handlers by ways of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasker.worker import (
    HandlerDefinition,
    HandlerDefinitionError,
    HandlerNotFoundError,
    HandlerRegistry,
    RegistryResolver,
    ResolverNotFoundError,
    StepContext,
    StepHandler,
    step_handler,
)


class Found(StepHandler):
    def call(self, context: StepContext) -> Any:
        return {}

    def refund(self, context: StepContext) -> Any:
        return {}


@step_handler("taken")
def taken() -> None: ...


class Shop(RegistryResolver):
    name = "shop"
    prefix = "shop."

    def __init__(self, answer: object = Found) -> None:
        self.answer = answer
        self.asked: list[HandlerDefinition] = []

    def resolve_handler(self, definition: HandlerDefinition) -> object | None:
        self.asked.append(definition)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def with_resolver(resolver: RegistryResolver) -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.register(taken)
    registry.add_resolver(resolver)
    return registry


def named(name: str, **more: object) -> RegistryResolver:
    """Return a resolver of a class of its own."""
    kind: type[RegistryResolver] = type(f"Resolver_{name}", (Shop,), {"name": name, "prefix": None, **more})
    return kind()


@pytest.mark.parametrize("answer", [Found, Found(), taken])
def test_a_resolver_may_answer_with_anything_that_is_a_handler(answer: object) -> None:
    registry = with_resolver(Shop(answer))
    assert registry.resolve("shop.any").origin.endswith(("Found", "taken"))
    assert "shop.any" in registry.callables()  # so that its steps are claimed


def test_a_resolver_is_asked_once_and_told_everything() -> None:
    resolver = Shop()
    registry = with_resolver(resolver)
    first = registry.resolve("shop.any", "refund")
    assert registry.resolve("shop.any", "refund") is first
    registry.resolve("elsewhere", None, "shop")  # a hint does not look at the prefix
    assert resolver.asked == [
        HandlerDefinition("shop.any", "refund"),
        HandlerDefinition("elsewhere", "call", "shop"),
    ]


def test_lower_numbers_are_asked_first() -> None:
    registry = with_resolver(named("late", priority=200))
    registry.add_resolver(named("middle"))
    registry.add_resolver(named("early", priority=5))
    assert registry.resolvers() == ("early", "explicit_mapping", "middle", "class_lookup", "late")
    registry.resolve("taken")
    assert registry.resolve("taken").origin.endswith("Found")  # `early` comes before what is registered


@pytest.mark.parametrize(
    ("pattern", "prefix", "own"),
    [
        (r"shop\.\w+$", None, {"shop.a"}),
        (None, "shop.", {"shop.a", "shop.a.b"}),
        (r"bank\.", "shop.", {"shop.a", "shop.a.b", "bank.a"}),
        (None, None, {"shop.a", "shop.a.b", "bank.a", "my.shop.a"}),
    ],
)
def test_a_resolver_says_which_names_are_its_own(
    pattern: str | None, prefix: str | None, own: set[str]
) -> None:
    resolver = named("one", pattern=pattern, prefix=prefix)
    names = ("shop.a", "shop.a.b", "bank.a", "my.shop.a")
    assert {name for name in names if resolver.can_resolve(HandlerDefinition(name))} == own


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "known: taken"),
        (7, "resolver 'shop' found builtins.int"),
        (RuntimeError("its database is away"), "resolver 'shop' raised RuntimeError: its database is away"),
        (HandlerNotFoundError("shop.a", why="sold out"), "sold out"),
    ],
)
def test_what_a_resolver_does_wrong_is_told(answer: object, why: str) -> None:
    for hint in (None, "shop"):
        with pytest.raises(HandlerNotFoundError) as caught:
            with_resolver(Shop(answer)).resolve("shop.a", None, hint)
        assert why in str(caught.value)
        assert "'shop.a'" in str(caught.value)


def test_an_unknown_resolver_lists_the_known_ones() -> None:
    with pytest.raises(ResolverNotFoundError, match=r"'oracle'.*known: explicit_mapping, shop, class_lookup"):
        with_resolver(Shop()).resolve("taken", None, "oracle")


def test_a_resolver_that_cannot_work_is_refused() -> None:
    registry = with_resolver(Shop())
    registry.add_resolver(Shop())  # once more changes nothing
    for resolver, why in (
        (named(""), "needs a `name`"),
        (named("shop"), r"'shop' is taken by .*Shop"),
        (named("class_lookup"), "'class_lookup' is taken"),
        (named("bad", pattern="("), r"pattern '\(' is no regular expression"),
    ):
        with pytest.raises(HandlerDefinitionError, match=why):
            registry.add_resolver(resolver)
    assert registry.resolvers() == ("explicit_mapping", "shop", "class_lookup")


def test_a_resolver_added_later_is_asked_too() -> None:
    registry = HandlerRegistry()
    assert registry.resolve(f"{__name__}.Found").origin.endswith("Found")
    registry.add_resolver(named("one", __init__=lambda self: Shop.__init__(self, taken)))
    assert registry.resolve(f"{__name__}.Found").origin.endswith("taken")


def test_discovery_takes_resolvers_and_reports_those_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "resolvers_of_a_shop.py").write_text(
        dedent("""
            from tasker.worker import RegistryResolver

            class Nameless(RegistryResolver):
                def resolve_handler(self, definition):
                    return None

            class Good(Nameless):
                name = "good"

            class Demanding(Nameless):
                name = "demanding"
                def __init__(self, address):
                    pass
            """)
    )
    registry = HandlerRegistry()
    try:
        found = registry.discover(tmp_path)
    finally:
        sys.modules.pop("resolvers_of_a_shop", None)
    assert registry.resolvers() == ("explicit_mapping", "good", "class_lookup")
    (problem,) = found.problems
    assert "resolver 'demanding'" in str(problem)
    assert "address" in str(problem)
