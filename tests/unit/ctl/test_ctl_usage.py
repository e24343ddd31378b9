"""Arguments that are wrong: one line that names the argument and the fix, as JSON if that is asked for."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasker.ctl.main import execute
from tasker.domain.templates.loading import MAX_DOCUMENT_BYTES
from tasker.version import VERSION
from tests.support.verbs import CALLS, GROUPS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process; return its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tasker", *arguments])
        return execute(), *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("task", "create", "workflow"), "'workflow' is not NAMESPACE/NAME"),
        (("task", "create", "a/b", "--context", "{"), "'--context': it is not JSON"),
        (("task", "create", "a/b", "--context", "[]"), "'--context': it must be a JSON object"),
        (("task", "create", "a/b", "--context", "@none.json"), "there is no file 'none.json'"),
        (("task", "create", "a/b", "--priority", "101"), "'--priority'"),
        (("task", "create"), "Missing argument"),
        (("task", "get", "7"), "TASK_UUID"),
        (("task", "list", "--state", "odd"), "'--state'"),
        (("task", "list", "--sort", "age"), "'--sort'"),
        (("task", "list", "--created-after", "soon"), "'--created-after'"),
        (("task", "dance"), "No such command 'dance'"),
        (("health", "--probe", "perfect"), "'--probe'"),
        (("task", "cancel"), "name the tasks to cancel, or say with --failed"),
        (("task", "cancel", "01980000", "--failed"), "not both"),
        (("task", "retry", "01980000"), "'--reason'"),
        (("task", "get", "019"), "give at least 4 digits"),
        (("step", "show", "01980000"), "Missing argument"),
        (("step", "retry", "01980000", "charge"), "'--reason'"),
        (("step", "complete", "01980000", "charge", "--reason", "paid"), "'--result'"),
        (("step", "complete", "01980000", "charge", "--result", "{", "--reason", "paid"), "it is not JSON"),
        (("dlq", "update", "01980000"), "--status, --notes or --metadata"),
        (("dlq", "list", "--status", "open"), "'--status'"),
        (("queue", "pause", "shop"), "'--reason'"),
        (("queue", "requeue", "first", "--reason", "mended"), "ID"),
        (("template", "deactivate", "shop/checkout", "--reason", "bad"), "say which version"),
        (("system", "metrics", "--hours", "-1"), "'--hours'"),
        (("template", "validate", "none.yaml"), "none.yaml"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments: tuple[str, ...], problem: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert "--help" in line
    code, out, err = run(*arguments, "--json")
    assert (code, out) == (2, "")
    refusal = json.loads(err)
    assert (refusal["code"], refusal["reason"]) == ("INVALID_ARGUMENT", "USAGE")
    assert line == f"error: {refusal['message']}"
    assert len(refusal["fields"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("task", "list", "--tag", "a\udcff"),
        ("task", "get", "a\udcff"),
        ("a\udcff",),
        ("template", "validate", "a\udcff"),
    ],
    ids=ascii,
)
def test_what_is_no_text_is_a_usage_error(arguments: tuple[str, ...], run: Run) -> None:
    """A byte 0xff arrives as such a lone surrogate."""
    assert run(*arguments) == (2, "", "error: Invalid value: 'a\\xff' is no UTF-8 text\n")
    code, out, err = run(*arguments, "--json")
    assert (code, out, json.loads(err)["reason"]) == (2, "", "USAGE")


def test_a_setting_that_is_no_text_is_one_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_ADDRESS", "a\udcff")
    code, out, err = run("task", "list")
    assert (code, out) == (2, "")
    assert "'--address' (env var: 'TASKER_ADDRESS'): 'a\\xff' is no UTF-8 text" in err


@pytest.mark.parametrize("group", [(), *((name,) for name in GROUPS)])
def test_a_group_alone_shows_its_help(group: tuple[str, ...], run: Run) -> None:
    code, out, err = run(*group)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: tasker")


@pytest.mark.parametrize("arguments", [("--version",), ("--version", "task")])
def test_the_version_comes_before_everything_else(arguments: tuple[str, ...], run: Run) -> None:
    assert run(*arguments) == (0, f"tasker {VERSION}\n", "")


def test_help_is_no_error(run: Run) -> None:
    code, out, err = run("task", "create", "--help")
    assert (code, err) == (0, "")
    assert "--idempotency-key" in out


@pytest.mark.parametrize(
    ("command", "speaks_json"),
    [
        *((call, True) for call in sorted(CALLS)),
        (("template", "validate"), True),
        (("health",), True),
        *(((name,), False) for name in ("demo", "dev", "migrate", "orchestration", "worker")),
    ],
)
def test_what_asks_or_changes_something_speaks_json(
    command: tuple[str, ...], speaks_json: bool, run: Run
) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert bool(re.search(r"^ +--json ", out, re.M)) is speaks_json


# template validate needs no service

GOOD = """
name: good
namespace_name: shop
version: 1.0.0
steps:
  - name: only
    handler: work
    result_schema: {type: object}
"""
BAD = """
name: Bad
namespace_name: shop
version: 1.0
colour: red
steps:
  - {name: a, handler: x, dependencies: [b]}
  - {name: b, handler: y, dependencies: [a]}
"""


def test_every_finding_has_a_place(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)
    code, out, err = run("template", "validate", str(bad), "--all")
    assert (code, err) == (1, "")
    *findings, summary = out.splitlines()
    assert findings[0] == f"{bad}:2: error INVALID_NAME: 'Bad' must match ^[a-z][a-z0-9_]*$"
    assert [line.removeprefix(f"{bad}:").split(":")[:2] for line in findings] == [
        ["2", " error INVALID_NAME"],
        ["4", " error INVALID_VERSION"],
        ["5", " warning UNKNOWN_KEY"],
        ["7", " error CYCLE_DETECTED"],
        ["7", " info NO_RESULT_SCHEMA"],
        ["8", " info NO_RESULT_SCHEMA"],
    ]
    assert summary == "1 template: 3 errors, 1 warning, 2 infos"


HELD = """\
name: held
namespace_name: shop
version: 1.0.0
input_schema: {type: object, properties: {email: {type: string}}}
steps:
  - {name: a, handler: shop.a}
  - {name: b, handler: shop.b}
  - name: c
    dependencies: [a]
    handler: shop.c
"""
HANDLERS = """\
from typing import Annotated
from tasker.worker import Dep, Inputs, step_handler

@step_handler("shop.a")
def a(email: Annotated[str, Inputs("email")]): return {}

@step_handler("shop.c")
def c(first: Annotated[dict, Dep("a")], b: Annotated[dict, Dep("b")], mail: Annotated[str, Inputs("emial")]): return {}
"""


def test_templates_are_held_against_handlers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    template, handlers = tmp_path / "held.yaml", tmp_path / "held_handlers.py"
    template.write_text(HELD)
    handlers.write_text(HANDLERS)
    code, out, err = run("template", "validate", str(template), "--handlers", str(handlers))
    assert (code, err) == (1, "")
    missing, unfit, misspelt, orphan = sorted(out.splitlines()[:-1], key=lambda line: line.split()[2])
    assert missing.startswith(
        f"{template}:7: error HANDLER_MISSING: step 'b': no registered handler answers to 'shop.b'"
    )
    assert unfit.endswith(
        "step 'c': handler 'shop.c' takes the result of 'b', which is no step above it; above it: a"
    )
    assert misspelt.endswith(
        "takes 'emial' of the task's context, which input_schema does not have; it has email"
    )
    assert "ORPHAN_STEP" in orphan
    # Told by programs too; without handlers, and without remarks, there is nothing wrong.
    code, out, _ = run("template", "validate", str(template), "--handlers", str(handlers), "--json")
    report = json.loads(out)
    assert (code, report["valid"]) == (1, False)
    assert [f["step"] for f in report["findings"] if f["code"].startswith("HANDLER")] == ["b", "c", "c"]
    code, out, _ = run("template", "validate", str(template))
    assert (code, "info" in out) == (0, False)


def test_every_finding_is_there_for_programs_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    (tmp_path / "b.yml").write_text(GOOD)
    code, out, _ = run("template", "validate", str(tmp_path), "--json")
    bad, good = map(json.loads, out.splitlines())
    assert code == 1
    assert (bad["source"], bad["valid"], bad["template"]) == (str(tmp_path / "a.yaml"), False, None)
    assert (bad["step_count"], bad["has_cycles"], len(bad["findings"])) == (2, True, 6)
    assert bad["findings"][0] == {
        "code": "INVALID_NAME",
        "severity": "error",
        "message": "'Bad' must match ^[a-z][a-z0-9_]*$",
        "path": "name",
        "step": None,
        "line": 2,
        "source": str(tmp_path / "a.yaml"),
    }
    assert (good["valid"], good["template"], good["findings"]) == (True, "shop/good:1.0.0", [])


def test_good_templates_are_found_wherever_they_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "deep" / "deeper" / "one.yaml").write_text(GOOD)
    (tmp_path / "two.yml").write_text(f"{GOOD}---\n{GOOD.replace('good', 'better')}")
    (tmp_path / ".hidden" / "copy.yaml").write_text(BAD)
    (tmp_path / "notes.txt").write_text("no template")
    code, out, _ = run("template", "validate", str(tmp_path))
    assert (code, out) == (0, "3 templates: nothing to remark\n")


def test_an_unknown_key_is_an_error_if_that_is_wanted(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(f"colour: red\n{GOOD}")
    assert run("template", "validate", str(file))[0] == 0
    code, out, _ = run("template", "validate", str(file), "--strict")
    assert code == 1
    assert "good.yaml:1: error UNKNOWN_KEY" in out


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"a: [1\n", ":2: error INVALID_YAML"), (b"\xff\xfe\x00", ": error INVALID_YAML: cannot parse")],
)
def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    data: bytes, problem: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_bytes(data)
    (tmp_path / "good.yaml").write_text(GOOD)
    code, out, _ = run("template", "validate", str(tmp_path))
    assert code == 1
    assert f"broken.yaml{problem}" in out
    assert out.endswith("2 templates: 1 error\n")


def test_a_file_that_a_worker_would_not_read_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("#" * (MAX_DOCUMENT_BYTES + 1))
    code, out, _ = run("template", "validate", str(path))
    assert code == 1
    assert f"it takes {MAX_DOCUMENT_BYTES + 1} bytes, maximum {MAX_DOCUMENT_BYTES}" in " ".join(out.split())


def test_nothing_to_check_is_no_success(run: Run, tmp_path: Path) -> None:
    code, _, err = run("template", "validate", str(tmp_path))
    assert code == 2
    assert f"{tmp_path} holds no template" in err
