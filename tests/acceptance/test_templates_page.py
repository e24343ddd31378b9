"""docs/templates.md tells the truth: its templates run, its tables are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from grpc import aio
from pydantic_core import PydanticUndefined

from tasker.domain.identity import IdentityStrategy
from tasker.domain.retry import Backoff, RetryPolicy, backoff_delay
from tasker.domain.templates import document as doc
from tasker.domain.templates.findings import Code, Findings, Severity
from tasker.domain.templates.loading import load_documents
from tasker.domain.templates.normalisation import TEMPLATE, Section
from tasker.domain.templates.offers import offer
from tasker.domain.templates.plan import plan
from tasker.domain.templates.validation import validate
from tasker.testing import make_context, run_handler
from tasker.v1 import template_admin_pb2, template_admin_pb2_grpc
from tasker.worker.runtime.templates import register_directory
from tests.support import services
from tests.support.dynamic import decide, split
from tests.support.engine import Engine, chain
from tests.support.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")

#: The part of a template that the table below each heading describes.
PARTS: dict[str, type[doc.Part]] = {
    "Template": doc.Template,
    "Step": doc.Step,
    "Handler": doc.Handler,
    "Retry": doc.RetryRules,
    "Batch config": doc.BatchConfig,
    "Domain event": doc.DomainEvent,
    "Published event": doc.PublishedEvent,
    "Environment": doc.Environment,
    "Override": doc.StepOverride,
    "Lifecycle": doc.Lifecycle,
    "System dependencies": doc.SystemDependencies,
}

_BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    language: str
    file: str | None
    body: str

    def documents(self, name: str) -> list[dict[str, Any]]:
        """Return the templates of the block; one that shows a part only gets the keys it leaves out."""
        left_out = {"name": name, "namespace": "page", "version": "1.0.0"}
        return [left_out | content for content in yaml.safe_load_all(self.body)]


BLOCKS = [Block(found["language"], found["file"], found["body"]) for found in _BLOCK.finditer(PAGE)]
GOOD = [block for block in BLOCKS if block.language == "yaml" and block.file is None]


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert section is not None, f"there is no heading {heading!r}"
    rows = [line for line in section[1].splitlines() if line.startswith("| ")]
    assert rows, f"there is no table below {heading!r}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def sections(section: Section = TEMPLATE) -> dict[type[doc.Part], Section]:
    found = {section.part: section}
    for inner in (*section.one.values(), *section.many.values(), *section.by_name.values()):
        found |= sections(inner)
    return found


def outcome(template: doc.Template, step_name: str) -> dict[str, Any]:
    """Return what a step's handler may return: decisions take all their branches, batches are split in two."""
    (step_type,) = [step.type for step in template.steps if step.name == step_name]
    below = [
        step.name
        for step in template.steps
        if step_name in step.dependencies and step.type is doc.StepType.STANDARD
    ]
    return {doc.StepType.DECISION: decide(*below), doc.StepType.BATCHABLE: split(2)}.get(step_type, {})


# Templates


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_a_template_of_the_page_is_valid(number: int) -> None:
    for content in GOOD[number].documents(f"page_{number}"):
        findings = [f for f in validate(content).findings if f.severity is not Severity.INFO]
        assert findings == []


async def test_the_templates_of_the_page_run(engine: Engine, tmp_path: Path) -> None:
    for number, block in enumerate(GOOD):
        text = yaml.safe_dump_all(block.documents(f"page_{number}"))
        (tmp_path / f"page_{number}.yaml").write_text(text)
    report = await register_directory(tmp_path, engine.database, strict=True)
    assert report.errors == []
    assert len(report.templates) == len(GOOD) + 1  # one block holds two
    for template in report.templates:
        context = {"order_id": 1, "email": "ada@example.com"}
        task_uuid = (await engine.request(template, context)).task.task_uuid
        queue, handlers = (
            f"worker_{template.namespace_name}_queue",
            [
                offer(step.handler.callable, step.handler.method, step.handler.resolver)
                for step in template.steps
            ],
        )
        for _ in template.steps:
            for step in await engine.worker.claim([queue], handlers, 100):
                await engine.succeed(step, result=outcome(template, step.template_step_name))
            await engine.process()
        assert await engine.state(task_uuid) == "complete"


async def test_the_decision_of_the_page_decides() -> None:
    (block,) = [block for block in BLOCKS if block.language == "python"]
    names: dict[str, Any] = {"__name__": "page"}
    exec(block.body, names)
    for amount, chosen in ((4999, ["ask_manager"]), (5000, ["ask_manager", "ask_finance"])):
        result = await run_handler(names["route"], make_context(inputs={"amount": amount}))
        assert result.result["decision_point_outcome"]["step_names"] == chosen


def test_the_three_faults_are_told_as_shown() -> None:
    (faulty,) = [block for block in BLOCKS if block.file is not None]
    (told,) = [block for block in BLOCKS if block.language == "text"]
    assert faulty.file is not None
    (loaded,) = load_documents(faulty.body, faulty.file)
    assert "".join(f"{finding}\n" for finding in validate(loaded).errors) == told.body


def test_an_environment_does_what_the_page_says() -> None:
    (block,) = [block for block in GOOD if "environments" in block.body]
    (content,) = block.documents("page")
    template = validate(content).template
    assert template is not None
    (step,) = plan(template, "test")
    assert (step.max_attempts, step.backoff_base_ms, step.timeout_seconds) == (2, 2000, 5)
    assert step.initialization == {"server": "localhost", "tls": True}


def test_the_command_prints_the_schema() -> None:
    (block,) = [block for block in BLOCKS if block.language == "sh"]
    command, _, target = block.body.strip().partition(" > ")
    program, *arguments = command.split()
    assert program == "python"
    printed = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout
    assert printed == (ROOT / "docs" / target).read_text(encoding="utf-8")


async def test_the_request_of_the_page_deactivates(engine: Engine) -> None:
    (block,) = [block for block in BLOCKS if block.language == "json"]
    request = json_format.Parse(block.body, template_admin_pb2.DeactivateRequest())
    await engine.register(chain(1) | {"namespace_name": "shop", "name": "welcome", "version": "1.0.0"})
    await engine.register(chain(1) | {"namespace_name": "shop", "name": "welcome", "version": "1.1.0"})
    async with (
        services.orchestration(engine.url) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        stub = template_admin_pb2_grpc.TemplateAdminServiceStub(channel)
        answer = await stub.Deactivate(request, timeout=PATIENCE_SECONDS)
    assert (answer.version.deactivated_by, answer.default_version) == ("anna", "1.0.0")


# Tables


@pytest.mark.parametrize("heading", PARTS)
def test_a_table_lists_the_keys_of_its_part(heading: str) -> None:
    part = PARTS[heading]
    keys = {info.alias or name: info for name, info in part.model_fields.items()}
    if part is doc.PublishedEvent:
        keys = {key: info for key, info in keys.items() if key not in ("name", "description", "schema")}
    listed = {words(key)[0]: (words(key)[1:], default) for key, _, default, _ in table(heading)}
    assert listed.keys() == keys.keys()
    aliases = sections()[part].aliases
    for key, (others, default) in listed.items():
        assert others == [alias for alias, meant in aliases.items() if meant == key]
        info = keys[key]
        if info.default is PydanticUndefined:
            assert default == "required"
        elif isinstance(info.default, doc.Part) and default in ("nothing", "its defaults"):
            assert info.default == type(info.default)()
        else:
            expected = info.default.model_dump() if isinstance(info.default, doc.Part) else info.default
            assert json.loads(default.strip("`")) == expected


def test_no_part_lacks_a_table() -> None:
    shown = {
        *PARTS.values(),
        doc.RetryOverride,
        doc.HandlerOverride,
    }  # these two in the words of another table
    assert shown == sections().keys()


def test_choices_and_ranges_are_those_of_the_schema() -> None:
    """Every value that the model lists or limits is in the cell of its key."""
    schema = json.loads((ROOT / "docs" / "template.schema.json").read_text(encoding="utf-8"))
    for heading, part in PARTS.items():
        properties = (schema if part is doc.Template else schema["definitions"][part.__name__])["properties"]
        for key, value, *_ in table(heading):
            for rule in flattened(properties.get(words(key)[0], {}), schema):
                assert set(rule.get("enum", ())) <= {*words(value), *OLD_VALUES}
                limits = (rule.get("minimum"), rule.get("maximum"))
                if limits != (None, None) and limits[1] != 2_147_483_647:
                    assert value == f"{limits[0]} to {limits[1]}"
                if "maxLength" in rule and words(key)[0] != "version":
                    assert f"at most {rule['maxLength']}" in value


def flattened(rule: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in rule:
        rule = schema["definitions"][rule["$ref"].rpartition("/")[2]]
    return [rule, *(inner for choice in rule.get("anyOf", ()) for inner in flattened(choice, schema))]


OLD_VALUES = {old for section in sections().values() for values in section.values.values() for old in values}


def test_every_old_spelling_is_listed() -> None:
    written = " ".join(row[0] for row in table("Old spellings"))
    every = sections().values()
    for old in {key for section in every for key in (*section.renamed, *section.dropped)} | OLD_VALUES:
        assert old in written


def test_the_codes_are_all_there_with_their_severity() -> None:
    findings = Findings()
    for code in Code:
        findings.add(code, (), "")
    expected = {finding.code.value: finding.severity.value for finding in findings.in_order()}
    assert {words(code)[0]: severity for code, severity, _ in table("What a check may say")} == expected


def test_the_factors_of_a_backoff_are_as_shown() -> None:
    for kind, factors in table("Failing and trying again"):
        policy = RetryPolicy(backoff=Backoff(words(kind)[0]), base_ms=1000, max_ms=3_600_000)
        series = [int(factor) for factor in factors.split(", ")]
        for attempt in range(1, 6):
            shown = series[min(attempt, len(series)) - 1]
            assert backoff_delay(policy, attempt, jitter=0) == timedelta(seconds=shown)
    assert [words(kind)[0] for kind, _ in table("Failing and trying again")] == [
        kind.value for kind in Backoff
    ]


def test_every_identity_strategy_is_explained() -> None:
    shown = [words(strategy)[0] for strategy, _ in table("When two requests are one task")]
    assert shown == [strategy.value for strategy in IdentityStrategy]


def test_links_of_the_page_lead_somewhere() -> None:
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", PAGE, re.M)}  # fmt: skip
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (ROOT / "docs" / target).exists()
