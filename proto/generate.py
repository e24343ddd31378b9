"""Generate from proto/ what is committed beside it, or check that it is up to date.

Usage: generate.py [--check]. What is generated: the stubs in shared/tasker/v1, as buf.gen.yaml states;
proto/tasker.v1.binpb, the descriptors of all files with their comments, for tools that take a descriptor set; and
docs/contract-reference.md, the same to read. Neither is done where proto/ breaks what was published: see published.py.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from published import DESCRIPTORS, breaking_changes
from reference import page

ROOT = Path(__file__).resolve().parent.parent
STUBS = Path("shared", "tasker", "v1")
PAGE = Path("docs", "contract-reference.md")
#: buf and the plugins are installed beside the interpreter that runs this.
BIN = Path(sys.executable).parent


def buf(*arguments: str) -> None:
    """Run buf in the root of the project; exit if it fails."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(BIN / "buf"), *arguments]
    if subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False).returncode:  # noqa: S603
        sys.exit(f"buf {arguments[0]} failed; its message is above")


def fresh() -> dict[Path, bytes]:
    """Return what proto/ gives now, by path below the root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # buf creates the `out` of buf.gen.yaml below --output.
        buf("generate", "--output", name)
        (folder / DESCRIPTORS).parent.mkdir()
        buf("build", "--output", str(folder / DESCRIPTORS))
        files = {file.relative_to(folder): file.read_bytes() for file in (folder / STUBS).iterdir()}
        descriptors = (folder / DESCRIPTORS).read_bytes()
    return files | {DESCRIPTORS: descriptors, PAGE: page(descriptors).encode()}


def committed() -> dict[Path, bytes]:
    """Return the generated files in the tree."""
    paths = [*(ROOT / STUBS).glob("*_pb2*.py*"), ROOT / DESCRIPTORS, ROOT / PAGE]
    return {path.relative_to(ROOT): path.read_bytes() for path in paths if path.exists()}


def drift(expected: dict[Path, bytes], actual: dict[Path, bytes]) -> list[str]:
    """Return one line for each file that differs from what proto/ gives now."""
    lines = []
    for path in sorted(expected.keys() | actual.keys()):
        if path not in actual:
            lines.append(f"{path} is missing")
        elif path not in expected:
            lines.append(f"{path} belongs to no file in proto/")
        elif actual[path] != expected[path]:
            lines.append(f"{path} differs from what proto/ gives")
    return lines


def main() -> int:
    """Generate or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail if what is generated is stale"
    )
    check = parser.parse_args().check
    if broken := breaking_changes(ROOT, BIN / "buf"):
        sys.stderr.write(f"proto/ breaks the contract that clients have:\n{broken}")
        return 1
    expected, actual = fresh(), committed()
    if check:
        lines = drift(expected, actual)
        if lines:
            sys.stderr.write("What is generated from proto/ is out of date; run `make proto`.\n")
            sys.stderr.writelines(f"  {line}\n" for line in lines)
        return 1 if lines else 0
    for path in actual.keys() - expected.keys():
        (ROOT / path).unlink()
    for path, content in expected.items():
        if actual.get(path) != content:
            (ROOT / path).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
