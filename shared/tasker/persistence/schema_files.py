"""The SQL files that make the schema: numbered migrations, and the text of each function as it is now."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tasker.domain.errors import TaskerError

Phase: TypeAlias = Literal["pre", "post"]

_FILE_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_PHASE: Final = re.compile(r"-- phase: (pre|post)\n")


class MigrationError(TaskerError):
    """A file of the schema is malformed, was changed after it was applied, or failed."""

    reason = "MIGRATION_FAILED"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of tables, types, indexes or data: `NNNN_what.sql`, whose first line gives its phase.

    Once released it never changes: it is applied once.
    """

    version: int
    name: str
    phase: Phase
    statements: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """The functions of one operation, `functions/what.sql`: applied whenever its text is another than the last time."""

    name: str
    statements: str
    checksum: str

    def __str__(self) -> str:
        return f"functions/{self.name}"


def migrations_folder() -> Path:
    """Return where the SQL files are: inside the installed package, or at the root of a source checkout."""
    installed = Path(str(files("tasker.persistence").joinpath("migrations")))
    return installed if installed.is_dir() else Path(__file__).parents[3] / "migrations"


def load_migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """Read all migrations in order.

    Raises:
        MigrationError: A file name, the phase line or the numbering is wrong.
    """
    found = []
    for path, text in _texts(folder or migrations_folder()):
        name, phase = _FILE_NAME.fullmatch(path.name), _PHASE.match(text)
        if name is None or phase is None:
            raise MigrationError(
                f"{path.name}: name it NNNN_what.sql and begin it with '-- phase: pre' or '-- phase: post'"
            )
        found.append(
            Migration(
                int(name["version"]),
                name["name"],
                "pre" if phase[1] == "pre" else "post",
                text,
                _checksum(text),
            )
        )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migration numbers must run from 0001 without gap or repetition")
    return tuple(found)


def load_functions(folder: Path | None = None) -> tuple[FunctionFile, ...]:
    """Read all files of functions, by name: none depends on another's having been applied."""
    return tuple(
        FunctionFile(path.stem, text, _checksum(text))
        for path, text in _texts((folder or migrations_folder()) / "functions")
    )


def _texts(folder: Path) -> Iterable[tuple[Path, str]]:
    return [(path, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql"))]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
