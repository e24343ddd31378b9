"""docs/security.md tells the truth: its commands work, its tables are the code's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tasker.client import AccessOptions
from tasker.config.security import SecuritySettings
from tasker.config.settings import OrchestrationSettings
from tasker.ctl.access import access_options
from tasker.rpc.credentials.api_keys import hash_key, parse_api_keys
from tasker.rpc.credentials.refusals import Granting
from tasker.rpc.key_files import KeyFileError
from tasker.rpc.permissions import PERMISSION_OF, Permission
from tasker.rpc.security import security_of
from tests.support import services, waiting
from tests.support.commands import environment
from tests.support.engine import Engine, chain

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what stands under a heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]


def settings_of(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines())


# Tables


def test_the_permissions_are_those_of_the_code() -> None:
    table = {
        name.strip("`"): set(re.findall(r"`([\w.]+)`", calls[0] if calls else ""))
        for name, *calls in rows(section("Permissions"))[1:]
    }
    expected: dict[str, set[str]] = {permission: set() for permission in Permission}
    for service, methods in PERMISSION_OF.items():
        short = service.removeprefix("tasker.v1.")
        for method, permission in methods.items():
            expected[permission].add(f"{short}.{method}")
    assert expected.pop(Permission.SYSTEM_OPERATE) == {
        f"OperationsService.{method}" for method in PERMISSION_OF["tasker.v1.OperationsService"]
    }
    assert table.pop("system:operate") == {"OperationsService"}
    assert table == expected


def test_the_settings_are_those_of_the_code_with_their_defaults() -> None:
    table = {name.strip("`"): default for name, default, *_ in rows(section("Settings"))[1:]}
    expected: dict[str, str] = {}
    for field in SecuritySettings.model_fields.values():
        default = field.default
        shown = ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
        expected[str(field.validation_alias)] = shown.lower() if isinstance(default, bool) else shown
    expected["TASKER_TLS_ENABLED"] = "with a certificate"
    assert table == expected


def test_every_setting_it_names_exists() -> None:
    of_services = {str(field.validation_alias) for field in SecuritySettings.model_fields.values()}
    of_clients = {cell.strip("`") for _, cell, *_ in rows(section("Clients"))[1:]}
    binding = {"TASKER_ORCHESTRATION_GRPC_BIND_ADDRESS", "TASKER_WORKER_GRPC_BIND_ADDRESS"}
    assert set(re.findall(r"TASKER_[A-Z_]+", PAGE)) <= of_services | of_clients | binding


def test_what_clients_take_is_what_they_take() -> None:
    table = rows(section("Clients"))[1:]
    assert {python.strip("`") for _, _, python, _ in table} == set(AccessOptions.__annotations__)
    options = {option.strip("`").removeprefix("--").replace("-", "_") for option, *_ in table}
    assert options == set(access_options.__annotations__) - {"return"}


def test_the_log_lines_it_names_are_written() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "shared/tasker/rpc").rglob("*.py")
    )
    events = {
        event for row in rows(section("What is logged"))[1:] for event in re.findall(r"`(\w+)`", row[0])
    }
    assert events == set(re.findall(r'_log\.\w+\(\s*"(\w+)"', sources)) - {"rpc_failed"}


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


# Commands


class Terminal:
    """Runs what the page says, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, script: str, **variables: str) -> str:
        """Run a block and return what it printed."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", script, cwd=self._folder, env=environment(PATH=path, **variables),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out: bytes
        out, _ = await waiting.within(process.communicate(), seconds=100)
        assert process.returncode == 0, f"{script}\n{out.decode()}"
        return out.decode()


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)  # where services look for the files that the page names
    return Terminal(tmp_path)


@asynccontextmanager
async def serving(database_url: str, *settings: str) -> AsyncIterator[str]:
    """Run an orchestration service with settings of the page; yield its address."""
    given = {name: value for block in settings for name, value in settings_of(block).items()}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in given.items():
            patched.setenv(name, value)
        async with services.orchestration(database_url) as service:
            yield service.address


async def test_from_nothing_to_tokens(database_url: str, terminal: Terminal) -> None:
    text = section("Tokens")
    make, use = blocks(text, "sh")
    settings, _ = blocks(text, "ini")
    await terminal.run(make)
    async with serving(database_url, settings) as address:
        said = await terminal.run(use, TASKER_ADDRESS=address)
    assert "subject      ada" in said
    assert "No task matches." in said
    assert "No template is registered." in said


def test_the_settings_for_an_identity_provider_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = blocks(section("Tokens"), "ini")
    for name, value in settings_of(settings).items():
        monkeypatch.setenv(name, value)
    loaded = OrchestrationSettings.load(database_url="postgresql://nowhere/none", auth_enabled=True)
    assert security_of(loaded).authenticator is not None


async def test_from_nothing_to_api_keys(
    database_url: str, engine: Engine, terminal: Terminal, tmp_path: Path
) -> None:
    text = section("API keys")
    make, use = blocks(text, "sh")
    (keys,), (settings,) = blocks(text, "yaml"), blocks(text, "ini")
    assert re.search(r"^hash  sha256:[0-9a-f]{64}$", await terminal.run(make), re.M)
    path = tmp_path / "keys.yaml"
    path.write_text(keys)
    with pytest.raises(KeyFileError, match="key must be sha256: and 64 hexadecimal digits"):
        parse_api_keys(path.read_bytes(), source="keys.yaml", granting=Granting(strict=True))
    path.write_text(keys.replace("sha256:HASH", hash_key("x")))
    await engine.register(chain(1) | {"namespace_name": "shop", "name": "welcome"})
    async with serving(database_url, settings) as address:
        said = await terminal.run(re.sub(r"\bKEY\b", "x", use), TASKER_ADDRESS=address)
    assert said.count("is created") == 2


async def test_from_nothing_to_mutual_tls_and_the_python_client(
    database_url: str, terminal: Terminal
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this system")
    text = section("TLS")
    make, ask, mutual = blocks(text, "sh")
    files, authority = blocks(text, "ini")
    (program,) = blocks(section("Clients"), "python")
    await terminal.run(make)
    async with serving(database_url, files) as address:
        await terminal.run(ask, TASKER_ADDRESS=address)
        assert 'SyncTaskerClient("localhost:9190"' in program
        program = program.replace("localhost:9190", address.replace("127.0.0.1", "localhost"))
        assert await terminal.run(f"echo any > token; python - <<'END'\n{program}\nEND") == "()\n"
    async with serving(database_url, files, authority) as address:
        await terminal.run(mutual, TASKER_ADDRESS=address)
