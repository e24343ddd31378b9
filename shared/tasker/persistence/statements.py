"""The SQL statements of the readers and stores: one file an operation, in `sql/`."""

from __future__ import annotations

from importlib.resources import files


def statement(name: str) -> str:
    """Return the text of `sql/<name>.sql`."""
    return files("tasker.persistence").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
