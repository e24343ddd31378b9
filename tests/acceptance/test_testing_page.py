"""The page on testing tells the truth: its snippets are the files of a folder whose tests pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.commands import environment

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
#: A block, and the last file that the text before it names.
SNIPPET = re.compile(r"`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```$", re.M | re.S)


def test_the_snippets_run(tmp_path: Path) -> None:
    files = dict(SNIPPET.findall(PAGE))
    assert len(files) == PAGE.count("```") / 2
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    expected = sum(text.count("\ndef test_") for text in files.values())
    # Without the plug-ins that our own tests use; nor is it one of the processes of our run.
    program = [sys.executable, "-m", "pytest", "-q", "-W", "error"]
    program += [f"-pno:{plugin}" for plugin in ("asyncio", "cacheprovider", "randomly", "timeout", "xdist")]
    variables = {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*program, "--rootdir", tmp_path, "--basetemp", tmp_path / "made", tmp_path],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{expected} passed" in done.stdout
