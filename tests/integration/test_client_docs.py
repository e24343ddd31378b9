"""docs/client.md tells the truth: its programs run in order and print what it shows."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasker.client import TaskerClient
from tasker.worker import PermanentError, StepContext
from tests.support import services
from tests.support.engine import graph
from tests.support.workshop import Workshop

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)

CHECKOUT = graph({"price_cart": [], "charge": ["price_cart"]}) | {
    "name": "checkout",
    "namespace_name": "shop",
    "input_schema": {"type": "object", "properties": {"cart": {"type": "array"}}},
}


def charge(context: StepContext) -> object:
    if context.get_dependency_result("price_cart")["total"] > 1000:
        raise PermanentError("the card was declined", error_code="CARD_DECLINED")
    return {"step": "charge"}


@pytest.fixture
async def address(database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    workshop = Workshop(
        behaviours={
            "price_cart": lambda context: {"total": 10 * sum(context.get_input("cart"))},
            "charge": charge,
        }
    )
    folder = services.write_templates(tmp_path / "templates", CHECKOUT)
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, workshop.registry, folder),
    ):
        yield orchestration.address


async def test_its_programs_print_what_it_shows(address: str) -> None:
    printed: str | None = None
    for language, body in BLOCKS:
        if language == "text":
            assert printed == body
            continue
        assert language == "python"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            body.replace("127.0.0.1:9190", address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, err.decode()) == (0, "")
        printed = out.decode()
    assert [language for language, _ in BLOCKS] == ["python", "text"] * (len(BLOCKS) // 2)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_names_every_method() -> None:
    (table,) = re.findall(r"^\| Method .*?\n\n", PAGE, re.M | re.S)
    assert set(re.findall(r"`(\w+)\(", table)) == public(TaskerClient) - {"close"}


def test_it_names_every_call_of_the_groups() -> None:
    (table,) = re.findall(r"^\| Call .*?\n\n", PAGE, re.M | re.S)
    client = vars(TaskerClient("127.0.0.1:1"))
    groups = {name: type(group) for name, group in client.items() if not name.startswith("_")}
    assert set(re.findall(r"`(\w+)\.(\w+)\(", table)) == {
        (group, name) for group, kind in groups.items() for name in public(kind)
    }
