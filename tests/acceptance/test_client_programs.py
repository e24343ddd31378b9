"""The programs in clients/ run as their page says, in each language whose tools are here, and print what it shows."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import site
import sys
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tasker.worker import load_handlers
from tests.support import services

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "clients" / "README.md").read_text()
SHOWN_ADDRESS: Final = "127.0.0.1:9190"
NEEDS: Final = {"python": (), "node": ("node", "npm"), "go": ("go",)}
#: What tools say that cannot reach where packages come from.
_OFFLINE: Final = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|no such host|dial tcp|Temporary failure in name"
)

SCRIPTS: Final = dict(re.findall(r"^```sh\n(?=cd clients/(\w+)$)(?P<script>.*?)^```$", PAGE, re.M | re.S))
(SHOWN,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
async def address(database_url: str) -> AsyncIterator[str]:
    """An orchestration service with the example that the programs call."""
    examples = ROOT / "examples"
    registry = load_handlers(examples)
    async with (
        services.orchestration(database_url) as orchestration,
        services.worker(database_url, registry, examples / "linear_sequence"),
    ):
        yield orchestration.address


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The programs beside the contract, in a tree that may be written to."""
    made = shutil.ignore_patterns("node_modules", "gen", "tasker", "__pycache__")
    shutil.copytree(ROOT / "clients", tmp_path / "clients", ignore=made)
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """Return one in which `python` has the packages of this environment, but nothing of ours."""
    venv.create(folder / "python", with_pip=False)
    path = (str(folder / "python" / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    return os.environ | {"PATH": os.pathsep.join(path), "PYTHONPATH": site.getsitepackages()[0]}


def test_every_program_is_run() -> None:
    folders = {path.name for path in (ROOT / "clients").iterdir() if path.is_dir()}
    assert set(SCRIPTS) == set(NEEDS) == folders


@pytest.mark.timeout(
    900
)  # the first build of the packages that a program needs takes minutes on a busy machine
@pytest.mark.parametrize("language", NEEDS)
async def test_a_program_prints_what_its_page_shows(language: str, address: str, checkout: Path) -> None:
    for tool in NEEDS[language]:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", SCRIPTS[language].replace(SHOWN_ADDRESS, address)),
        cwd=checkout,
        env=environment(checkout),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = (said.decode() for said in await process.communicate())
    if process.returncode and _OFFLINE.search(err) and not os.environ.get("CI"):
        pytest.skip(f"the packages of {language} cannot be reached")
    assert process.returncode == 0, out + err
    assert out.endswith(SHOWN), out + err


def test_versions_are_pinned() -> None:
    pinned = re.findall(r"^(\S+)==(\S+)$", (ROOT / "clients/python/requirements.txt").read_text(), re.M)
    ours = dict(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements/dev.txt").read_text(), re.M))
    assert pinned
    assert all(ours[name] == version for name, version in pinned)  # else pip would change this environment
    wanted = json.loads((ROOT / "clients/node/package.json").read_text())["dependencies"]
    locked = json.loads((ROOT / "clients/node/package-lock.json").read_text())["packages"]
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert all("integrity" in package for name, package in locked.items() if name)
