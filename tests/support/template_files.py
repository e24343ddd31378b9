"""Template files: written, registered, and what is in the database then."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasker.worker.runtime.templates import Registration, register_directory
from tests.support.engine import Engine

WHAT_REGISTERING_WRITES = ("task_namespaces", "named_tasks", "template_revisions")


def write(folder: Path, **documents: object) -> Path:
    """Write a file for each: text as it is, everything else as YAML."""
    for name, document in documents.items():
        text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text)
    return folder


async def registered(engine: Engine, folder: Path, **settings: bool) -> Registration:
    return await register_directory(folder, engine.database, **settings)


async def written(engine: Engine) -> dict[str, int]:
    """Return how many rows there are of all that registering a template writes."""
    return {
        table: (await engine.sql(f"SELECT count(*) FROM tasker.{table}"))[0][0]
        for table in WHAT_REGISTERING_WRITES
    }
