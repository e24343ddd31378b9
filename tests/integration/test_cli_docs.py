"""docs/command-line.md tells the truth: what it shows can be typed as it stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tasker.ctl.failures import ExitCode
from tests.support import services
from tests.support.commands import TASKER, environment
from tests.support.engine import graph
from tests.support.workshop import Workshop

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
PARTS = {
    heading: blocks
    for heading, part in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    if (blocks := re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S))
}

CHECKOUT = graph({"price_cart": [], "charge": ["price_cart"]}) | {
    "name": "checkout",
    "namespace_name": "shop",
}


@pytest.mark.parametrize("heading", PARTS)
async def test_its_commands_can_be_typed(heading: str, database_url: str, tmp_path: Path) -> None:
    folder = services.write_templates(tmp_path / "templates", CHECKOUT)
    (tmp_path / "context.json").write_text('{"cart": [7]}')
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, Workshop().registry, folder),
    ):
        settings = environment(TASKER_ADDRESS=orchestration.address)
        settings["PATH"] = f"{Path(TASKER).parent}:{settings['PATH']}"
        for block in PARTS[heading]:
            process = await asyncio.create_subprocess_exec(
                "sh", "-e", "-c", block, cwd=tmp_path, env=settings,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 90)
            remarks = re.sub(r"^\d+ tasks? to cancel\.\n", "", err.decode(), flags=re.M)
            assert (process.returncode, remarks) == (0, ""), block
            assert out


def test_it_names_every_exit_code() -> None:
    assert set(re.findall(r"^\| (\d+) \|", PAGE, re.M)) == {str(code.value) for code in ExitCode}


def test_no_command_is_overlooked() -> None:
    assert sum(map(len, PARTS.values())) == len(re.findall("^```sh$", PAGE, re.M))
