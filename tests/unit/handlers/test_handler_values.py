"""Results keep all of what they are, and come back as it; what would lose something is refused, by its place."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, OrderedDict, UserDict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import pydantic
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
)
from typing_extensions import TypedDict

from tasker.worker import Dep, step_handler
from tasker.worker.handlers.jsonable import to_jsonable
from tasker.worker.handlers.results import result_body
from tests.unit.handlers.conftest import Run

Held = TypeVar("Held")


class Item(BaseModel):
    sku: str


class Book(Item):
    pages: int


@dataclasses.dataclass
class Place:
    street: str
    hidden: str = dataclasses.field(default="h", repr=False)


@dataclasses.dataclass
class Shop(Place):
    floors: int = 1


class Order(BaseModel):
    items: list[Item]
    best: Item | None = None
    by_name: dict[str, Item] = {}
    place: Place | None = None
    colour: Annotated[int, PlainSerializer(hex)] = 255


class Box(BaseModel):
    model_config = ConfigDict(extra="forbid")
    w: int
    h: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.w * self.h


class Shelf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    boxes: list[Box]
    other: Box | int
    named: dict[str, Box]

    @computed_field(alias="n")  # type: ignore[prop-decorator]
    @property
    def count(self) -> int:
        return len(self.boxes)


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    given: str = Field(alias="givenName")
    inner: Box | None = Field(default=None, validation_alias="innerBox", serialization_alias="in")


class Holder(BaseModel, Generic[Held]):
    held: Held


class Books(RootModel[list[Book]]):
    pass


class Colour(Enum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


class Pair(NamedTuple):
    item: Item
    number: int


class Sizes(TypedDict):
    box: Box
    sizes: set[int]


class Everything(BaseModel):
    at: datetime = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
    day: date = date(2026, 3, 29)
    hour: time = time(2, 30)
    took: timedelta = timedelta(days=1, seconds=1.5)
    price: Decimal = Decimal("1.10")
    raw: bytes = b"abc"
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    where: Path = Path("/x")
    uuid: UUID = UUID(int=1)
    kinds: frozenset[int] = frozenset({3})
    numbered: dict[int, str] = {1: "one"}
    queue: deque[int] = deque([1])
    large: int = 2**70


@pydantic.dataclasses.dataclass
class Checked:
    item: Item


BOOK = Book(sku="b", pages=7)
BOX = Box(w=2, h=3)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (BOX, Box),
        (Shelf(boxes=[BOX], other=BOX, named={"a": BOX}), Shelf),
        ([BOX, BOX], list[Box]),
        (Aliased(givenName="Ada", innerBox=BOX), Aliased),
        (Holder[Box](held=BOX), Holder[Box]),
        (Books([BOOK]), Books),
        (Holder[Books](held=Books([BOOK])), Holder[Books]),
        (Pair(Item(sku="b"), 2), Pair),
        (Sizes(box=BOX, sizes={1, 2}), Sizes),
        (Everything(), Everything),
        (Shop("Main St", "x", 3), Shop),
        (Checked(Item(sku="b")), Checked),
        (Colour.RED, Colour),
        (Decimal("1.10"), Decimal),
        (b"abc", bytes),
        ({1, 2}, set[int]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_what_a_step_returns_comes_back_as_it_was(run: Run, value: object, kind: Any) -> None:
    read = []

    def handler(made: object) -> None:
        read.append(made)

    handler.__annotations__["made"] = Annotated[kind, Dep("make")]
    result = await run(step_handler("read")(handler), dependency_results={"make": result_body(value)})
    assert result.error is None
    assert read == [value]


def test_models_and_dataclasses_are_stored_as_what_they_are_and_not_as_what_holds_them() -> None:
    order = Order(items=[BOOK], best=BOOK, by_name={"a": BOOK}, place=Place("Main St"))
    book = {"sku": "b", "pages": 7}
    place = {"street": "Main St", "hidden": "h"}
    stored = {"items": [book], "best": book, "by_name": {"a": book}, "place": place, "colour": "0xff"}
    assert result_body(order) == result_body({"deep": [order]})["deep"][0] == stored
    assert result_body(Checked(BOOK)) == {"item": book}
    assert result_body(Holder[Item](held=BOOK)) == {"held": book}


def test_what_an_author_says_of_a_model_holds() -> None:
    class Login(BaseModel):
        user: str
        password: SecretStr
        token: SecretStr = Field(default=SecretStr("t"), exclude=True)

        @field_serializer("password")
        def _reveal(self, password: SecretStr) -> str:
            return password.get_secret_value()

    class Own(BaseModel):
        secret: SecretStr = SecretStr("s")

        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {"own": "words"}

    assert result_body(Login(user="u", password=SecretStr("pw"))) == {"user": "u", "password": "pw"}
    assert result_body(Own()) == {"own": "words"}


class Scalar:
    """What numpy's and others' scalars have in common."""

    def __init__(self, value: object, dtype: str = "int64", ndim: int = 0) -> None:
        self.value, self.dtype, self.ndim = value, dtype, ndim

    def item(self) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (MappingProxyType({"a": UserDict({"b": 1})}), {"a": {"b": 1}}),
        (OrderedDict(z=1, a=2), {"z": 1, "a": 2}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Pair(Item(sku="a"), 2), [{"sku": "a"}, 2]),
        ({"n": [Scalar(7), Scalar(True, "bool"), Scalar(1.5, "float32")]}, {"n": [7, True, 1.5]}),
        ({1: "a", "2": "b", Colour.RED: "c", 1.5: "d"}, {"1": "a", "2": "b", "r": "c", "1.5": "d"}),
        ({"empty": SecretStr("")}, {"empty": ""}),
    ],
)
def test_other_values_of_those_kinds_are_taken(value: object, stored: object) -> None:
    assert to_jsonable(value) == stored


class Account(BaseModel):
    name: str = "n"
    key: SecretStr = SecretStr("k")


class Rates(BaseModel):
    rates: dict[int | str, int]


class Masked(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def pin(self) -> SecretStr:
        return SecretStr("1234")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: {1: "int", "1": "text"}, "keys 1 and '1' of the value are the same in JSON"),
        (lambda: {"by": [{True: 1, "true": 2}]}, "keys True and 'true' of by[0] are the same"),
        (lambda: {"by": {("a", "b"): 1}}, "a key of by is ('a', 'b'), which no text stands for"),
        (lambda: [{None: 1}], "a key of [0] is None, which no text stands for"),
        (lambda: Rates(rates={1: 1, "1": 2}), "keys 1 and '1' of rates are the same"),
        (lambda: MappingProxyType({1: 1, "1": 2}), "keys 1 and '1' of the value"),
        (lambda: {"at": {"pw": SecretStr("x")}}, "at.pw is a SecretStr, whose value would not be stored"),
        (lambda: Account(), "key is a SecretStr"),
        (lambda: {"of": [Account()]}, "of[0].key is a SecretStr"),
        (lambda: Holder[Account](held=Account()), "held.key is a SecretStr"),
        (lambda: [SecretBytes(b"x")], "[0] is a SecretBytes"),
        (lambda: {"n": Secret[int](0)}, "n is a Secret"),
        (lambda: RootModel[list[SecretStr]]([SecretStr("x")]), "[0] is a SecretStr"),
        (lambda: Masked(), "pin is a SecretStr"),
        (lambda: {"a": [{"b": b"\xff"}]}, "a[0].b: "),
        (lambda: {"a": Holder[Any](held={"f": len})}, "a.held.f: a builtin_function_or_method has no JSON form"),
        (lambda: {"a": Scalar(5, "datetime64[ns]")}, "a: a Scalar has no JSON form"),
        (lambda: {"a": Scalar([5], ndim=1)}, "`tolist()`"),
        (lambda: Order(items=[], place=Shop("x")), "dataclass, so that floors would be lost"),
        (lambda: {"a": Place("x"), "b": Place}, "b: a type has no JSON form"),
    ],
)  # fmt: skip
def test_what_would_lose_something_is_refused_by_its_place(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        result_body(make())


async def test_an_extra_that_is_no_computed_field_is_still_refused(run: Run) -> None:
    @step_handler("read")
    def read(made: Annotated[Box, Dep("make")]) -> None: ...

    result = await run(read, dependency_results={"make": {"w": 1, "h": 2, "area": 2, "more": 3}})
    assert result.error is not None
    assert result.error.error_type == "validation_error"
    assert "dependencies.make.more" in result.error.message
