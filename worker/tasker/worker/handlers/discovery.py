"""Finding the modules that may hold handlers."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from tasker.worker.handlers.errors import HandlerImportError


@dataclass(frozen=True, slots=True)
class Problem:
    """A module or handler that discovery had to leave out.

    Attributes:
        where: The module, or the handler's origin.
        error: What was wrong with it.
    """

    where: str
    error: Exception

    def __str__(self) -> str:
        return str(self.error)


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name.

    Raises:
        ModuleNotFoundError: There is no such module.
        HandlerImportError: There is one, and it fails; its own error is the cause.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        # Its own imports may be what is missing: that is a broken module, not a missing one.
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise
        raise HandlerImportError(name, exc) from exc
    except (Exception, SystemExit) as exc:
        raise HandlerImportError(name, exc) from exc


def import_path(path: Path) -> ModuleType:
    """Import one Python file, as part of its package if it is in one.

    Raises:
        HandlerImportError: It fails; its own error is the cause.
    """
    path = path.resolve()
    root, name = path.parent, path.stem
    while (root / "__init__.py").exists():
        root, name = root.parent, f"{root.name}.{name}"
    name = name.removesuffix(".__init__")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # so that handlers can import their neighbours
    if "." in name or path.name == "__init__.py":
        return _import_found(name)
    taken = sys.modules.get(name)
    if taken is not None and _file_of(taken) == path:
        return taken
    if taken is not None or name in sys.stdlib_module_names:
        # Two projects may both call their file handlers.py.
        name = f"{name}_{sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
    return _import_file(name, path)


def walk(root: ModuleType) -> Iterator[ModuleType | Problem]:
    """Yield a module and, if it is a package, all modules under it; one that fails becomes a problem."""
    yield root
    for found in sorted(
        pkgutil.iter_modules(getattr(root, "__path__", ()), f"{root.__name__}."), key=_name_of
    ):
        if found.name.endswith(".__main__"):
            continue  # a script: importing it would run it
        try:
            module = import_module(found.name)
        except (ModuleNotFoundError, HandlerImportError) as exc:
            yield Problem(found.name, exc)
        else:
            yield from walk(module)


def walk_path(path: Path) -> Iterator[ModuleType | Problem]:
    """Yield the modules of a file, of a package's directory, or of a directory of modules and packages."""
    if path.is_file():
        files = [path]
    elif (path / "__init__.py").exists():
        files = [path / "__init__.py"]
    else:
        files = sorted([*path.glob("*.py"), *path.glob("*/__init__.py")])
    for file in files:
        if file.name == "__main__.py":
            continue
        try:
            module = import_path(file)
        except HandlerImportError as exc:
            yield Problem(str(file), exc)
        else:
            yield from walk(module)


def _import_found(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        raise HandlerImportError(name, exc) from exc


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HandlerImportError(str(path), ImportError(f"{path} is no Python source file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = (
        module  # before it runs, as the import system does: dataclasses and pydantic look here
    )
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        sys.modules.pop(name, None)
        raise HandlerImportError(str(path), exc) from exc
    return module


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _name_of(found: pkgutil.ModuleInfo) -> str:
    return found.name
