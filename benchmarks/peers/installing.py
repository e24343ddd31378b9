"""The environments of the peers, each made of what is pinned here, never the project's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.errors import PeerMissingError
from benchmarks.peers.roster import Peer

FOLDER: Final = Path(__file__).parent
_PROGRAMS: Final = FOLDER / "programs"
#: Where the environments are: beside the project's own, not among its files, and gone with it.
_ENVIRONMENTS: Final = FOLDER.parents[1] / ".venv" / "peers"
_PATIENCE_SECONDS: Final = 600


def command(peer: Peer) -> list[str]:
    """Install a peer unless it is; return the command that runs its program, without the arguments.

    Raises:
        PeerMissingError: It cannot be installed here.
    """
    return {"tasker": _tasker, "python": _python, "go": _go, "node": _node}[peer.language](peer)


def version(peer: Peer) -> str:
    """Return the version of a peer that is pinned, and what it runs on, as `1.2.3 (Python 3.13.0)`."""
    if peer.language == "tasker":
        return f"of this tree ({_said(sys.executable, '--version')})"
    number = pinned(peer)
    if peer.language == "go":
        return f"{number} ({' '.join(_said('go', 'version').split()[:3])})"
    if peer.language == "node":
        return f"{number} (Node {_said(*_node(peer)[:1], '--version')})"
    return f"{number} ({_said(*_python(peer)[:1], '--version')})"


def _tasker(peer: Peer) -> list[str]:
    return [sys.executable, str(_PROGRAMS / "tasker_peer.py")]


def _python(peer: Peer) -> list[str]:
    environment = _ENVIRONMENTS / peer.name
    python = environment / "bin" / "python"
    pins = FOLDER / "requirements" / f"{peer.name}.txt"
    found = interpreter(peer)
    made_of = f"{_said(found, '--version')}\n{pins.read_text()}"
    if not _fresh(environment, made_of):
        shutil.rmtree(environment, ignore_errors=True)
        _do([found, "-m", "venv", str(environment)])
        _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)])
        _stamp(environment, made_of)
    return [str(python), str(_PROGRAMS / f"{peer.name}_peer.py")]


def _go(peer: Peer) -> list[str]:
    source = _PROGRAMS / peer.name
    built = _ENVIRONMENTS / peer.name
    made_of = _text(source / "go.mod", source / "main.go", source / "scenarios.go")
    if not _fresh(built, made_of):
        _need("go", peer)
        built.mkdir(parents=True, exist_ok=True)
        _do(["go", "build", "-o", str(built / "peer"), "."], folder=source)
        _stamp(built, made_of)
    return [str(built / "peer")]


def _node(peer: Peer) -> list[str]:
    source = _PROGRAMS / peer.name
    environment = _ENVIRONMENTS / peer.name
    pins = [source / "package.json", source / "peer.mjs", source / "scenarios.mjs"]
    made_of = _text(*pins)
    if not _fresh(environment, made_of):
        _need("npm", peer)
        environment.mkdir(parents=True, exist_ok=True)
        for file in pins:  # a module finds its packages beside it
            shutil.copy(file, environment)
        _do(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], folder=environment
        )
        _stamp(environment, made_of)
    # The package wants a newer Node than many have; the pins bring one.
    return [str(environment / "node_modules" / ".bin" / "node"), str(environment / "peer.mjs")]


def interpreter(peer: Peer) -> str:
    """Return a Python that is new enough: the one that runs this, if possible, so that all are compared on one."""
    for candidate in _interpreters():
        too_old = f"import sys; sys.exit(sys.version_info < {peer.python})"
        asked = subprocess.run([candidate, "-c", too_old], capture_output=True, check=False)
        if asked.returncode == 0:
            return candidate
    wanted = ".".join(map(str, peer.python))
    raise PeerMissingError(
        f"{peer.package} needs Python {wanted}, and there is none: name one in PEERS_PYTHON, "
        f"or make .venv with one: make setup PYTHON=python{wanted}"
    )


def _interpreters() -> Iterator[str]:
    yield sys.executable
    if named := os.environ.get("PEERS_PYTHON"):
        yield named
    for name in ("python3.14", "python3.13", "python3.12"):
        if found := shutil.which(name):
            yield found


def pinned(peer: Peer) -> str:
    """Return the version that the pins give the peer's package."""
    file = {
        "go": _PROGRAMS / peer.name / "go.mod",
        "node": _PROGRAMS / peer.name / "package.json",
    }.get(peer.language, FOLDER / "requirements" / f"{peer.name}.txt")
    for line in file.read_text().splitlines():
        words = line.replace("==", " ").replace('"', " ").replace(":", " ").replace(",", " ").split()
        if peer.package in words[:-1] and words[0] != "module":
            return words[words.index(peer.package) + 1]
    raise PeerMissingError(f"{file.name} does not pin {peer.package}")


def _need(tool: str, peer: Peer) -> None:
    if not shutil.which(tool):
        raise PeerMissingError(f"{peer.package} needs {tool}, which is not on PATH")


def _do(command: Sequence[str], *, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"{Path(command[0]).name} took longer than {_PATIENCE_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise PeerMissingError(f"{Path(command[0]).name} failed: {lines[-1] if lines else done.returncode}")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _fresh(environment: Path, made_of: str) -> bool:
    """Tell whether an environment was made of these very pins and sources."""
    stamp = environment / ".made_of"
    return stamp.exists() and stamp.read_text() == made_of


def _stamp(environment: Path, made_of: str) -> None:
    (environment / ".made_of").write_text(made_of)


def _text(*files: Path) -> str:
    return "\n".join(file.read_text() for file in files)
