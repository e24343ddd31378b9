"""Generate the stubs in shared/tasker/v1 from proto/, or check that they are up to date.

Usage: generate.py [--check]. What is generated and how is stated in buf.gen.yaml.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "shared"
PACKAGE = Path("tasker", "v1")
#: buf and the plugins are installed beside the interpreter that runs this.
BIN = Path(sys.executable).parent


def stubs(out: Path) -> dict[str, bytes]:
    """Return the generated files below an output folder by name."""
    return {file.name: file.read_bytes() for file in (out / PACKAGE).glob("*_pb2*.py*")}


def fresh_stubs() -> dict[str, bytes]:
    """Return what proto/ gives now."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [str(BIN / "buf"), "generate", "--output", folder]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False)  # noqa: S603
        if done.returncode:
            sys.exit("buf generate failed; its message is above")
        # buf creates the `out` of buf.gen.yaml below --output.
        return stubs(Path(folder, OUT.name))


def regenerate() -> None:
    """Replace the stubs in the tree."""
    files = fresh_stubs()
    for name in stubs(OUT).keys() - files.keys():
        (OUT / PACKAGE / name).unlink()
    for name, content in files.items():
        (OUT / PACKAGE / name).write_bytes(content)


def drift() -> list[str]:
    """Return one line for each file that differs from what proto/ gives now."""
    expected, actual = fresh_stubs(), stubs(OUT)
    lines = []
    for name in sorted(expected.keys() | actual.keys()):
        path = (OUT / PACKAGE / name).relative_to(ROOT)
        if name not in actual:
            lines.append(f"{path} is missing")
        elif name not in expected:
            lines.append(f"{path} belongs to no file in proto/")
        elif actual[name] != expected[name]:
            lines.append(f"{path} differs from what proto/ gives")
    return lines


def main() -> int:
    """Generate or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the stubs are stale")
    if not parser.parse_args().check:
        regenerate()
        return 0
    lines = drift()
    if lines:
        sys.stderr.write("The generated stubs are out of date; run `make proto`.\n")
        sys.stderr.writelines(f"  {line}\n" for line in lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
