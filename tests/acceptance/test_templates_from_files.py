"""Templates from their files over a worker to tasks, on real services."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from tasker.domain.templates.loading import MAX_DOCUMENT_BYTES
from tasker.persistence.reading.templates import TemplateReader
from tests.support import services
from tests.support.clients import Client
from tests.support.engine import Engine, chain
from tests.support.template_files import registered, write, written
from tests.support.workshop import Workshop

# Faults


@pytest.mark.own_database
async def test_a_template_with_three_faults_is_told_all_of_them_and_not_written(
    engine: Engine, folder: Path
) -> None:
    step = {"name": "a", "handler": "work", "dependencies": ["a", "ghost"]}
    write(folder, broken=chain(1) | {"version": "1", "steps": [step]})
    before = await written(engine)
    report = await registered(engine, folder)
    assert report.errors == [
        "broken.yaml:3: INVALID_VERSION: version '1' must be x.y.z",
        "broken.yaml:9: SELF_DEPENDENCY: step 'a' depends on itself",
        "broken.yaml:10: MISSING_DEP_REF: step 'a' depends on unknown step 'ghost'",
    ]
    assert (report.successful_registrations, report.failed_registrations) == (0, 1)
    assert await written(engine) == before
    assert await engine.sql("SELECT queue_name FROM pgmq.list_queues() WHERE queue_name ~ '^worker'") == []


async def test_an_old_limit_works_with_a_remark(
    database_url: str, engine: Engine, client: Client, workshop: Workshop, folder: Path
) -> None:
    write(folder, old=chain(1, retry={"limit": 5}))
    async with services.worker(database_url, workshop.registry, folder) as service:
        report = service.worker.registration
        assert report.warnings == [
            "old.yaml:10: LEGACY_KEY: steps[0].retry.limit: old name of max_attempts; write max_attempts"
        ]
        assert report.errors == []
        task = await client.create()
    ((attempts,),) = await engine.sql(
        "SELECT max_attempts FROM tasker.workflow_steps WHERE task_uuid = %s", task.task_uuid
    )
    assert attempts == 5


async def test_a_number_as_version_and_a_long_namespace_are_refused(engine: Engine, folder: Path) -> None:
    text = yaml.safe_dump(chain(1))
    write(
        folder,
        number=text.replace("1.0.0", "1.0"),
        long=text.replace("namespace_name: test", f"namespace_name: {'n' * 30}"),
        limit=text.replace("namespace_name: test", f"namespace_name: {'n' * 29}"),
    )
    report = await registered(engine, folder)
    assert report.discovered_namespaces == ["n" * 29]
    assert [line.split(": ", 1)[1] for line in report.errors] == [
        f"NAMESPACE_TOO_LONG: namespace '{'n' * 30}' has 30 characters, maximum 29",
        "INVALID_VERSION: version '1.0' must be x.y.z; it is a number here, quote it",
    ]


async def test_an_unknown_key_is_a_remark_or_for_the_strict_an_error(
    database_url: str, workshop: Workshop, folder: Path
) -> None:
    write(folder, typo=chain(1, timeout_second=5), fine=chain(1) | {"name": "fine"})
    finding = "typo.yaml:9: UNKNOWN_KEY: steps[0].timeout_second: unknown key, did you mean timeout_seconds?"
    async with services.worker(database_url, workshop.registry, folder) as service:
        assert service.worker.registration.warnings == [finding]
        assert service.worker.registration.errors == []
    async with services.worker(database_url, workshop.registry, folder, strict_templates=True) as service:
        assert service.worker.registration.errors == [finding]
        assert service.worker.registration.discovered_templates == ["test/fine/1.0.0"]


# The directory


async def test_one_broken_file_among_ten(
    database_url: str, client: Client, workshop: Workshop, folder: Path
) -> None:
    (folder / "deeper").mkdir()
    write(folder / "deeper", **{f"good_{n}": chain(1) | {"name": f"good_{n}"} for n in range(5)})
    write(folder, **{f"fine_{n}": chain(1) | {"name": f"fine_{n}"} for n in range(4)}, broken="name: [b\n")
    (folder / "notes.txt").write_text("no template")
    with capture_logs() as logs:
        async with services.worker(database_url, workshop.registry, folder) as service:
            report = service.worker.registration
            task = await client.create(name="good_4")
            await client.watch(task.task_uuid)
            assert (await client.get(task.task_uuid)).completed_steps == 1
    assert (report.total_files, report.successful_registrations, report.failed_registrations) == (10, 9, 1)
    (error,) = report.errors
    assert error.startswith("broken.yaml:2: INVALID_YAML: cannot parse broken.yaml:2: ")
    names = [f"good_{n}" for n in range(5)] + [f"fine_{n}" for n in range(4)]
    assert report.discovered_templates == [f"test/{name}/1.0.0" for name in names]
    assert report.discovered_namespaces == ["test"]
    (told,) = [entry for entry in logs if entry["event"] == "templates_registered"]
    assert (told["total_files"], told["successful_registrations"], told["failed_registrations"]) == (10, 9, 1)
    assert [entry["problem"] for entry in logs if entry["event"] == "template_refused"] == [error]


async def test_a_file_that_is_too_long_does_not_stop_the_others(engine: Engine, folder: Path) -> None:
    text = yaml.safe_dump(chain(1) | {"name": "long"})
    rest = MAX_DOCUMENT_BYTES - len(text) - len("# \n")
    write(folder, good=chain(1), limit=f"# {'x' * rest}\n{text}", long=f"# {'x' * (rest + 1)}\n{text}")
    report = await registered(engine, folder)
    assert report.errors == [
        f"long.yaml: takes {MAX_DOCUMENT_BYTES + 1} bytes, maximum {MAX_DOCUMENT_BYTES}; "
        "of several templates in it, give each a file of its own"
    ]
    assert report.discovered_templates == ["test/workflow/1.0.0", "test/long/1.0.0"]


async def test_files_that_hold_no_template_are_told(engine: Engine, folder: Path) -> None:
    assert (await registered(engine, folder)).warnings == [
        f"template directory {folder} holds no .yaml or .yml file"
    ]
    write(folder, empty="# soon\n", good=chain(1))
    (folder / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    (folder / "gone.yml").symlink_to(folder / "nowhere.yml")
    (folder / "a_folder.yaml").mkdir()
    report = await registered(engine, folder)
    assert report.warnings == ["empty.yaml: holds no template"]
    assert report.errors == [
        "gone.yml: cannot read it: No such file or directory",
        "latin.yaml: cannot read it: it is no UTF-8 text",
    ]
    assert (report.total_files, report.successful_registrations, report.failed_registrations) == (4, 1, 2)


async def test_a_mounted_config_map_is_read_once(engine: Engine, folder: Path) -> None:
    """Its files are links into a hidden folder, which is there to be swapped."""
    (folder / "..2026_01_01").mkdir()
    write(folder / "..2026_01_01", workflow=chain(1))
    (folder / "..data").symlink_to("..2026_01_01")
    (folder / "workflow.yaml").symlink_to("..data/workflow.yaml")
    report = await registered(engine, folder)
    assert (report.total_files, report.successful_registrations, report.errors) == (1, 1, [])


async def test_the_same_version_twice_is_an_error_that_names_both_files(engine: Engine, folder: Path) -> None:
    both = f"# Two.\n{yaml.safe_dump(chain(3))}---\n{yaml.safe_dump(chain(1) | {'version': '1.1.0'})}"
    write(folder, a=chain(1), b=both, c=chain(1) | {"version": "2.0.0"})
    report = await registered(engine, folder)
    assert report.errors == [
        "b.yaml:2: template test/workflow:1.0.0 is in a.yaml:1 already, which is the one used; "
        "remove one of them, or give it another version"
    ]
    assert report.discovered_templates == [
        "test/workflow/1.0.0",
        "test/workflow/1.1.0",
        "test/workflow/2.0.0",
    ]
    assert (report.successful_registrations, report.failed_registrations) == (3, 1)
    stored = await engine.templates.get("test", "workflow", "1.0.0")
    assert stored is not None
    assert len(stored.document["steps"]) == 1


async def test_documents_and_anchors_of_a_file_are_registered(
    database_url: str, client: Client, workshop: Workshop, folder: Path
) -> None:
    text = """
name: first
namespace: test
version: 1.0.0
steps:
  - {name: a, handler: work, retry: &patient {max_attempts: 7}}
  - name: b
    depends_on: [a]
    handler: work
    retry: {<<: *patient, backoff: linear}
---
name: second
namespace: test
version: 1.0.0
steps:
  - {name: only, handler: work}
"""
    write(folder, two=text)
    async with services.worker(database_url, workshop.registry, folder) as service:
        assert service.worker.registration.discovered_templates == ["test/first/1.0.0", "test/second/1.0.0"]
        assert service.worker.registration.total_files == 1
        for name, steps in (("first", ["a", "b"]), ("second", ["only"])):
            task = await client.create(name=name)
            await client.watch(task.task_uuid)
            assert sorted(await client.list_steps(task.task_uuid)) == steps
    assert [step.max_attempts for step in (await client.list_steps(task.task_uuid)).values()] == [3]


async def test_a_store_keeps_what_a_directory_holds(engine: Engine, folder: Path) -> None:
    """Another process, which never saw the files, finds all of it."""
    document = chain(1) | {"input_schema": {"type": "object"}, "default_context": {"shop": "berlin"}}
    write(folder, workflow=document)
    await registered(engine, folder)
    stored = await TemplateReader(engine.database).get("test", "workflow", "1.0.0")
    assert stored is not None
    assert stored.document["input_schema"] == {"type": "object"}
    assert stored.document["default_context"] == {"shop": "berlin"}
    assert "loaded_from" not in stored.document
