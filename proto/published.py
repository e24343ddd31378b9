"""What clients may already have of the contract, and whether proto/ still keeps it.

Published is what `main` holds: its descriptor set where this branch left it, or on `main` itself the one of the commit
before. A clone without that history compares with the set in its own tree, which `make proto` only replaces by one that
breaks nothing.
"""

import subprocess
import tempfile
from pathlib import Path

#: The descriptor set, below the root of the project.
DESCRIPTORS = Path("proto", "tasker.v1.binpb")


def breaking_changes(root: Path, buf: Path) -> str:
    """Return what buf has against proto/ beside the published contract, one line each; empty if it keeps everything.

    Args:
        root: Of the project.
        buf: The command.
    """
    before = published(root)
    if before is None:
        return ""
    with tempfile.NamedTemporaryFile(suffix=DESCRIPTORS.suffix) as file:
        file.write(before)
        file.flush()
        command = [str(buf), "breaking", "--exclude-imports", "--against", file.name]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout + done.stderr if done.returncode else ""


def published(root: Path) -> bytes | None:
    """Return the published descriptor set; None where there never was one."""
    base = _base(root)
    if base and (found := _git(root, "show", f"{base}:{DESCRIPTORS.as_posix()}")):
        return found
    file = root / DESCRIPTORS
    return file.read_bytes() if file.exists() else None


def _base(root: Path) -> str:
    """Return the commit whose contract is published, or nothing where git knows none."""
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
    for main in ("main", "origin/main"):
        base = _git(root, "merge-base", "HEAD", main).decode().strip()
        if base and base != head:
            return base
    parent = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^").decode().strip()
    return parent or head


def _git(root: Path, *arguments: str) -> bytes:
    """Return what a git command prints; nothing if it fails, or if there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return b""
    return b"" if done.returncode else done.stdout
