"""Importing the modules of users, whatever they do while they are imported."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from tasker.worker.handlers.errors import HandlerImportError

#: How long one module may take; what it imports counts, and some libraries take their time.
IMPORT_SECONDS: Final = 60.0

#: What runs a program to its end, or for ever. A module that does so when it is imported is no module of handlers.
_PROGRAM_RUNNERS: Final = frozenset({"asyncio", "anyio", "trio", "uvicorn"})

#: Whether the import of a module that imports others is watched already.
_is_contained = False


class ImportTimeoutError(BaseException):
    """A module did not return; no `except Exception` of its own shall keep it alive."""


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name.

    Raises:
        ModuleNotFoundError: There is no such module.
        HandlerImportError: There is one, and it fails; its own error is the cause.
    """
    try:
        with _contained():
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as exc:
        # Its own imports may be what is missing: that is a broken module, not a missing one.
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise
        raise HandlerImportError(name, exc) from exc
    except BaseException as exc:
        raise HandlerImportError(name, exc) from exc


def import_path(path: Path) -> ModuleType:
    """Import one Python file, as part of its package if it is in one.

    Raises:
        HandlerImportError: It fails; its own error is the cause.
    """
    path = path.resolve()
    base = path.parent
    while (base / "__init__.py").exists():
        base = base.parent
    inside = path.parent if path.name == "__init__.py" else path.with_suffix("")
    first, *parts = inside.relative_to(base).parts
    add_to_path(base)  # so that handlers can import their neighbours
    module = import_top(path if inside == base / first and path.name != "__init__.py" else base / first)
    for part in parts:
        module = import_under(module, part)
    return module


def import_under(parent: ModuleType, name: str) -> ModuleType:
    """Import a module or package of a package.

    Raises:
        HandlerImportError: It fails; its own error is the cause.
    """
    dotted = f"{parent.__name__}.{name}"
    _refuse_dots(name, dotted)
    for place in parent.__path__:
        _refuse_program(Path(place) / f"{name}.py")
    try:
        return import_module(dotted)
    except ModuleNotFoundError as exc:
        raise HandlerImportError(dotted, exc) from exc


def import_top(path: Path) -> ModuleType:
    """Import a file or a folder as a module without a parent; a folder need not be a package.

    It has its own name, unless a module of the standard library or one that is loaded from elsewhere has it: two
    projects may both call their file `handlers.py`, and a folder of handlers may be called `email`.

    Raises:
        HandlerImportError: It fails; its own error is the cause.
    """
    is_folder = path.is_dir()
    source = path / "__init__.py" if is_folder else path
    name = path.name if is_folder else path.stem
    _refuse_dots(name, str(path))
    taken = sys.modules.get(name)
    if taken is not None and _is_from(taken, path):
        return taken
    if taken is not None or name in sys.stdlib_module_names or (not source.exists() and _is_found(name)):
        name = f"{name}_{sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
    if not source.exists():
        namespace = ModuleType(name)
        namespace.__path__ = [str(path)]
        sys.modules[name] = namespace
        return namespace
    _refuse_program(source)
    spec = importlib.util.spec_from_file_location(
        name, source, submodule_search_locations=[str(path)] if is_folder else None
    )
    if spec is None or spec.loader is None:
        reason = ImportError(f"{source} is no Python source file")
        raise HandlerImportError(str(source), reason) from reason
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = (
        module  # before it runs, as the import system does: dataclasses and pydantic look here
    )
    try:
        with _contained():
            spec.loader.exec_module(module)
    except BaseException as exc:
        sys.modules.pop(name, None)
        if isinstance(exc, KeyboardInterrupt):
            raise
        raise HandlerImportError(name if is_folder else str(source), exc) from exc
    return module


def add_to_path(folder: Path) -> None:
    """Let modules import what is in a folder: before what is installed, but never instead of the standard library."""
    if str(folder) in sys.path:
        return
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    inside = [
        index
        for index, entry in enumerate(sys.path)
        if entry in standard or (str(Path(entry).parent) in standard and Path(entry).name == "lib-dynload")
    ]
    sys.path.insert(max(inside, default=-1) + 1, str(folder))


def climbs_out(folder: Path, files: list[Path]) -> bool:
    """Tell whether relative imports of files under a folder treat it as a package, though it has no `__init__.py`."""
    return any(_most_dots(file) > len(file.relative_to(folder).parts) - 1 for file in files)


def _is_found(name: str) -> bool:
    """Tell whether a name is that of a module or package elsewhere, which a folder without `__init__.py` would hide."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _refuse_dots(name: str, where: str) -> None:
    if "." in name:
        reason = ImportError(f"{name!r} has a dot in its name, so that it cannot be imported; rename it")
        raise HandlerImportError(where, reason) from reason


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file:
        return Path(file).resolve() in (path, path / "__init__.py")
    return [Path(entry).resolve() for entry in getattr(module, "__path__", ())] == [path]


def _parsed(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []  # importing it tells what is wrong


def _most_dots(path: Path) -> int:
    nodes = (node for statement in _parsed(path) for node in ast.walk(statement))
    return max((node.level for node in nodes if isinstance(node, ast.ImportFrom)), default=0)


def _refuse_program(path: Path) -> None:
    """Refuse a file that runs an event loop to its end at its top level, before it does what it is made for."""
    for statement in _parsed(path):
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=library), attr="run"))):
                if library in _PROGRAM_RUNNERS:
                    reason = ImportError(
                        f"line {statement.lineno} runs a program when the file is imported, so it was left alone; "
                        'put that under `if __name__ == "__main__":`'
                    )
                    raise HandlerImportError(str(path), reason) from reason


@contextmanager
def _contained() -> Iterator[None]:
    """Let a module neither end the process nor keep it for ever; only the main thread can be interrupted.

    Raises:
        ImportTimeoutError: It did not return in time.
        SystemExit: It called `os._exit`.
    """
    global _is_contained
    if _is_contained or threading.current_thread() is not threading.main_thread():
        yield
        return
    _is_contained = True
    try:
        with _no_exit(), _limited():
            yield
    finally:
        _is_contained = False


@contextmanager
def _no_exit() -> Iterator[None]:
    process = os.getpid()
    leave: Callable[[int], Any] = os._exit

    def refuse(status: int) -> None:
        if os.getpid() != process:
            leave(status)  # a child of its own
        raise SystemExit(f"it ends the process when it is imported: os._exit({status})")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave  # type: ignore[assignment]


@contextmanager
def _limited() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise ImportTimeoutError(f"it has not returned for {IMPORT_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    # Again and again: what swallows one shall not live on.
    clock = signal.setitimer(signal.ITIMER_REAL, IMPORT_SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *clock)  # that of whoever has set one before
