"""The README tells the truth: its files, copied into an empty folder, run as it says and print what it shows."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasker.client import TaskerClient, TaskState
from tests.support.commands import Command, environment, running
from tests.support.reflection import call_by_reflection

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Where the README says the service listens; here any free port will do.
SHOWN_ADDRESS = "127.0.0.1:9190"
ANY_PORTS = ("--orchestration-port", "0", "--worker-port", "0")

# A fenced block, and the file's name if the paragraph above begins with it.
_BLOCK = re.compile(
    r"(?:^`(?P<file>[\w./]+)`[^\n]*\n(?:[^\n]+\n)*\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of the README."""

    file: str | None
    language: str
    body: str

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, as their words."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True) for line in lines if line.strip()]


BLOCKS = [Block(found["file"], found["language"], found["body"]) for found in _BLOCK.finditer(README)]


class Reader:
    """Somebody who does what the README says, in order, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: str | None = None
        self.did: list[str] = []
        self._stack = AsyncExitStack()
        self._address = ""

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def follow(self, block: Block) -> None:
        """Do what a block says; a block that nobody knows how to follow is a mistake."""
        if block.file is not None:
            self._write(block.file, block.body)
        elif block.language == "text":
            assert self.printed == block.body
        else:
            assert block.language == "sh", f"how is one to follow a block of {block.language}?"
            for command in block.commands:
                self.did.append(command[0])
                await getattr(self, f"_{command[0]}")(*command[1:])

    def _write(self, name: str, body: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")

    async def _make(self, target: str) -> None:
        """Look what make would do; doing it is what `make` is for."""
        code, out, _ = await self.run("make", "--dry-run", target, cwd=ROOT)
        assert code == 0
        assert {"demo": "tasker demo", "test": "pytest"}[target] in out

    async def _tasker(self, *arguments: str) -> None:
        if arguments[0] == "dev":
            await self._dev(*arguments)
            return
        words = ("-m", "tasker.ctl.main", *arguments, "--address", self._address)
        code, out, err = await self.run(sys.executable, *words, cwd=self.folder)
        assert (code, err) == (0, "")
        assert "complete" in out

    async def _dev(self, *arguments: str) -> None:
        command: Command = await self._stack.enter_async_context(
            running(*arguments, *ANY_PORTS, cwd=self.folder)
        )
        self._address = await command.says(r"orchestration +(127\.0\.0\.1:\d+)")
        await command.says("tasker task create")
        for script in self.folder.glob("*.py"):
            script.write_text(script.read_text().replace(SHOWN_ADDRESS, self._address))

    async def _python(self, script: str) -> None:
        code, self.printed, err = await self.run(sys.executable, script, cwd=self.folder)
        assert (code, err) == (0, "")

    async def _grpcurl(self, plaintext: str, data: str, request: str, address: str, method: str) -> None:
        """Do what grpcurl does: ask the service for its types, then call it."""
        assert (plaintext, data, address) == ("-plaintext", "-d", SHOWN_ADDRESS)
        answer = await asyncio.to_thread(call_by_reflection, self._address, method, json.loads(request))
        async with TaskerClient(self._address) as client:
            task = await client.wait(answer["task"]["taskUuid"], timeout=30)
        assert task.state is TaskState.COMPLETE
        assert task.context == json.loads(request)["context"]

    async def run(self, *command: str, cwd: Path) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with Reader(tmp_path) as reader:
        yield reader


async def test_every_snippet_works(reader: Reader) -> None:
    for block in BLOCKS:
        await reader.follow(block)
    assert reader.did == ["make", "make", "tasker", "python", "tasker", "tasker", "grpcurl"]
    # "Running `create.py` again ends with ..."
    code, _, err = await reader.run(sys.executable, "create.py", cwd=reader.folder)
    assert code != 0
    assert "AlreadyExistsError" in err


def test_no_snippet_is_overlooked() -> None:
    assert 2 * len(BLOCKS) == len(re.findall(r"^```", README, re.M))


async def test_the_examples_run_as_it_says(tmp_path: Path) -> None:
    (command,) = re.findall(r"`tasker (dev [^`]+)`", README)
    templates = len(list((ROOT / "examples").glob("*/*.yaml")))
    async with running(*command.split(), *ANY_PORTS, "--data-dir", str(tmp_path / "data"), cwd=ROOT) as dev:
        await dev.says(rf"templates +{templates} ")


def test_every_page_is_linked_from_the_readme() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (ROOT / target.partition("#")[0]).exists(), f"{page} links to {target}"
