"""Finding the modules that may hold handlers."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tasker.worker.handlers.errors import HandlerImportError
from tasker.worker.handlers.importing import (
    add_to_path,
    climbs_out,
    import_path,
    import_top,
    import_under,
)
from tasker.worker.handlers.places import traceback_of


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

    @property
    def traceback(self) -> str | None:
        """How a module that does not import came to its error."""
        cause = self.error.__cause__
        return traceback_of(cause) if isinstance(self.error, HandlerImportError) and cause else None


def walk(root: ModuleType) -> Iterator[ModuleType | Problem]:
    """Yield a module and, if it is a package, all modules under it; one that fails becomes a problem."""
    yield root
    yield from _under(root)


def walk_path(path: Path) -> Iterator[ModuleType | Problem]:
    """Yield the modules of a file, of a package's directory, or of a directory of modules and packages."""
    path = path.resolve()
    if (path / "__init__.py").exists():
        yield from _walked(path / "__init__.py")
    elif path.is_dir():
        yield from _walked_folder(path)
    elif climbs_out(path.parent, [path]) and not (path.parent / "__init__.py").exists():
        yield from _module_under(_opened(path.parent), path.stem)
    else:
        yield from _walked(path)


def _walked_folder(path: Path) -> Iterator[ModuleType | Problem]:
    """Yield what is in a folder that is no package."""
    if climbs_out(path, list(_sources(path))):
        # Its modules say `from .neighbour import ...`: it is a package in all but the file.
        yield from _under(_opened(path))
        return
    add_to_path(path)
    for found in sorted([*path.glob("*.py"), *_folders(path)]):
        if found.name == "__main__.py":
            continue  # a script: importing it would run it
        if (found / "__init__.py").exists():
            yield from _walked(found / "__init__.py")
        elif found.is_file():
            yield from _walked(found)
        else:
            try:
                package = import_top(found)
            except HandlerImportError as exc:
                yield Problem(exc.module, exc)
            else:
                yield from _under(package)


def _opened(folder: Path) -> ModuleType:
    """Make a package of a folder, whose modules may import each other with and without a dot."""
    add_to_path(folder)
    add_to_path(folder.parent)
    return import_top(folder)


def _walked(file: Path) -> Iterator[ModuleType | Problem]:
    try:
        module = import_path(file)
    except HandlerImportError as exc:
        yield Problem(exc.module, exc)
    else:
        yield from walk(module)


def _under(package: ModuleType) -> Iterator[ModuleType | Problem]:
    places = list(getattr(package, "__path__", ()))
    names = {found.name for found in pkgutil.iter_modules(places)}  # in archives, too
    for place in map(Path, places):
        names |= {file.stem for file in place.glob("*.py")} | {folder.name for folder in _folders(place)}
    for name in sorted(names - {"__init__", "__main__"}):
        yield from _module_under(package, name)


def _module_under(package: ModuleType, name: str) -> Iterator[ModuleType | Problem]:
    try:
        module = import_under(package, name)
    except HandlerImportError as exc:
        yield Problem(exc.module, exc)
    else:
        yield from walk(module)


def _folders(place: Path) -> Iterator[Path]:
    """Yield the folders of a folder that hold Python files, be they packages or not."""
    if not place.is_dir():
        return  # a place in an archive
    for folder in sorted(place.iterdir()):
        if folder.is_dir() and _is_looked_into(folder) and next(_sources(folder), None):
            yield folder


def _sources(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if _is_looked_into(entry):
                yield from _sources(entry)
        elif entry.suffix == ".py":
            yield entry


def _is_looked_into(folder: Path) -> bool:
    """Tell whether somebody may keep handlers there, and not an environment or what tools leave behind."""
    hidden = folder.name.startswith(".") or folder.name in ("__pycache__", "node_modules")
    return not hidden and not (folder / "pyvenv.cfg").exists()
