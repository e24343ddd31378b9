"""What is generated of the contract for those who call it, and that nothing published is taken back."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from tasker.rpc.permissions import PERMISSION_OF

ROOT: Final = Path(__file__).parents[2]
BUF: Final = Path(sys.executable).with_name("buf")
PAGE: Final = (ROOT / "docs" / "contract-reference.md").read_text()
DESCRIPTORS: Final = FileDescriptorSet.FromString((ROOT / "proto" / "tasker.v1.binpb").read_bytes())
FILES: Final = [file for file in DESCRIPTORS.file if file.package == "tasker.v1"]


# The descriptor set


def test_the_descriptor_set_is_all_that_a_client_needs() -> None:
    pool = DescriptorPool()
    for file in DESCRIPTORS.file:
        pool.Add(file)  # refused unless all that it imports is there
    for file in FILES:
        for service in file.service:
            for method in service.method:
                pool.FindMessageTypeByName(method.input_type.removeprefix("."))
    request = GetMessageClass(pool.FindMessageTypeByName("tasker.v1.CreateTaskRequest"))()
    ParseDict({"name": "welcome", "context": {"n": 1}}, request)
    assert request.SerializeToString()


def test_it_holds_every_file_with_comments() -> None:
    assert {file.name for file in FILES} == {
        path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto")
    }
    assert all(any(place.leading_comments for place in file.source_code_info.location) for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_options_say_where_generated_code_goes(file: FileDescriptorProto) -> None:
    stem = Path(file.name).stem
    assert file.options.go_package == "tasker/v1;taskerv1"
    assert file.options.java_package == "com.tasker.v1"
    assert file.options.java_multiple_files
    assert file.options.java_outer_classname == stem.title().replace("_", "") + "Proto"


# The page


def sections() -> dict[str, str]:
    """Return the text below each heading of the page."""
    parts = re.split(r"^### (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def messages(scope: str, declared: Iterator[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    for message in declared:
        if not message.options.map_entry:
            yield f"{scope}{message.name}", message
            yield from messages(f"{scope}{message.name}.", iter(message.nested_type))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_page_has_every_method_field_and_value(file: FileDescriptorProto) -> None:
    below = sections()
    for service in file.service:
        for method in service.method:
            (said,) = re.findall(rf"^- \*\*{method.name}\*\*\(.*\n(.*)$", below[service.name], re.MULTILINE)
            needed = PERMISSION_OF.get(f"tasker.v1.{service.name}", {}).get(method.name)
            assert said.startswith("  Needs") == bool(needed)
            assert not needed or f"`{needed}`" in said
    for name, message in messages("", iter(file.message_type)):
        rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", below[name], re.MULTILINE)
        assert rows == [(field.name, str(field.number)) for field in message.field], name
        for enum in message.enum_type:
            assert all(f"| `{value.name}` | {value.number} |" in PAGE for value in enum.value)
    for enum in file.enum_type:
        assert all(f"| `{value.name}` | {value.number} |" in below[enum.name] for value in enum.value)


def test_the_page_says_what_types_and_meanings_are() -> None:
    below = sections()
    assert "**StreamTaskStatus**([StreamTaskStatusRequest](#streamtaskstatusrequest)) → stream " in PAGE
    assert "| `metadata` | 4 | map of string to string | Facts about this occurrence. |" in PAGE
    assert "| `tags` | 10 | repeated string | Labels to find the task by. |" in below["CreateTaskRequest"]
    assert "| `priority` | 9 | optional int32 | From -100 to 100;" in below["CreateTaskRequest"]
    assert "[TaskStatusUpdate.UpdateType](#taskstatusupdateupdatetype)" in below["TaskStatusUpdate"]


# What was published stays


class Repository:
    """A repository with our contract, whose `main` has published it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "buf.yaml", folder)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()
        self.git("checkout", "--quiet", "-b", "work")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(self.folder), *who, *arguments], check=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--no-verify", "--message=change")

    def edit(self, old: str, new: str) -> None:
        """Change the file of tasks, and commit it with the descriptor set that it gives."""
        file = self.folder / "proto" / "tasker" / "v1" / "tasks.proto"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        build = [str(BUF), "build", "--output", "proto/tasker.v1.binpb"]
        subprocess.run(build, cwd=self.folder, check=True)
        self.commit()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in os.environ:
        if name.startswith("GIT_"):  # set where a hook of git runs the tests, and about another repository
            monkeypatch.delenv(name)
    return Repository(tmp_path)


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """The module that compares; proto/ is no package."""
    spec = importlib.util.spec_from_file_location("published", ROOT / "proto" / "published.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENAMED = ("optional string correlation_id = 5;", "optional string trace_id = 5;")
ADDED = (
    "optional string context_json = 101;",
    "optional string context_json = 101;\n  // New.\n  optional string shelf = 190;",
)


def test_a_field_of_our_own_may_come(repository: Repository, published: ModuleType) -> None:
    repository.edit(*ADDED)
    assert published.breaking_changes(repository.folder, BUF) == ""


def test_what_main_has_may_not_change_on_a_branch(repository: Repository, published: ModuleType) -> None:
    repository.edit(*RENAMED)
    assert 'from "correlation_id" to "trace_id"' in published.breaking_changes(repository.folder, BUF)


def test_what_only_the_branch_has_may(repository: Repository, published: ModuleType) -> None:
    repository.edit(*ADDED)
    repository.edit("optional string shelf = 190;", "optional string rack = 191;")
    assert published.breaking_changes(repository.folder, BUF) == ""


def test_what_main_has_gained_since_is_no_loss_of_the_branch(
    repository: Repository, published: ModuleType
) -> None:
    repository.git("checkout", "--quiet", "main")
    repository.edit(*ADDED)
    repository.git("checkout", "--quiet", "work")
    repository.commit()
    assert published.breaking_changes(repository.folder, BUF) == ""


def test_on_main_the_commit_before_is_what_counts(repository: Repository, published: ModuleType) -> None:
    repository.git("checkout", "--quiet", "main")
    repository.edit(*RENAMED)
    assert "correlation_id" in published.breaking_changes(repository.folder, BUF)


def test_a_clone_without_history_still_compares_with_its_own_set(
    repository: Repository, published: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clone = tmp_path_factory.mktemp("clone")
    repository.git("clone", "--quiet", "--depth=1", repository.folder.as_uri(), str(clone))
    assert published.breaking_changes(clone, BUF) == ""
    tasks = clone / "proto" / "tasker" / "v1" / "tasks.proto"
    tasks.write_text(tasks.read_text().replace(*RENAMED))
    assert "correlation_id" in published.breaking_changes(clone, BUF)
    shutil.rmtree(clone / ".git")
    assert "correlation_id" in published.breaking_changes(clone, BUF)
