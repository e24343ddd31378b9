"""Where an error in the code of users came from."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Final

#: What stands between a user's `import` and the user's module.
_BETWEEN: Final = (importlib.__file__, str(Path(__file__).with_name("importing.py")))


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error, without the steps of the import system."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(_own_frames(error))
    return "".join(shown.format(chain=False))


def place_of(error: BaseException) -> str:
    """Return the file and line of an error; empty if it has none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = _own_frames(error)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib") and frame.filename not in _BETWEEN
    ]
