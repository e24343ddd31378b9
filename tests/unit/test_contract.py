"""The descriptors of `tasker.v1` against the published contract."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

import tasker.v1

FACTS: Final = Path(__file__).with_name("contract_facts.txt")
PACKAGE: Final = "tasker.v1"
#: Fields from this number on are ours; nobody else's client knows them.
FIRST_FIELD_OF_OURS: Final = 100
WELL_KNOWN: Final = {"Ts": "google.protobuf.Timestamp", "Struct": "google.protobuf.Struct"}
SCALARS: Final = {"string", "bool", "int32", "int64", "uint32", "uint64", "double"}
MAP_ENTRY: Final = "MetadataEntry"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a client may rely on: the file it is declared in and what is said about it."""

    file: str
    says: str
    number: int = 0


# Facts as published


def published(text: str) -> dict[str, Fact]:
    """Read the notation that contract_facts.txt explains."""
    facts: dict[str, Fact] = {}
    file = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "file":
            file = f"tasker/v1/{rest}.proto"
        elif kind in PUBLISHED_LINES:
            facts |= {key: Fact(file, says, number) for key, says, number in PUBLISHED_LINES[kind](rest)}
    return facts


def published_enum(line: str) -> Iterator[tuple[str, str, int]]:
    name, _, values = line.partition(": ")
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name.rpartition(".")[2]).upper()
    for entry in ["0 UNSPECIFIED", *values.split(", ")]:
        number, value = entry.split()
        yield f"value {name}.{prefix}_{value}", number, int(number)


def published_message(line: str) -> Iterator[tuple[str, str, int]]:
    name, _, runs = line.partition(": ")
    yield f"message {name}", "", 0
    for run in runs.split("; ") if runs != "-" else ():
        first, rest = run.split(" ", 1)
        *names, last = rest.split(", ")
        last, _, kind = last.partition(" ")
        for number, field in enumerate([*names, last], int(first)):
            yield from published_field(name, field, number, kind or "string")


def published_field(message: str, field: str, number: int, kind: str) -> Iterator[tuple[str, str, int]]:
    label = {"?": "optional ", "*": "repeated "}.get(field[-1], "")
    if kind == "map<string,string>":  # on the wire: repeated messages of two fields
        label, kind = "repeated ", f"{message}.{MAP_ENTRY}"
        yield f"message {kind}", "", 0
        yield f"field {kind}.key", "1 string", 1
        yield f"field {kind}.value", "2 string", 2
    kind = kind if kind in SCALARS else WELL_KNOWN.get(kind) or f"{PACKAGE}.{kind}"
    yield f"field {message}.{field.rstrip('?*')}", f"{number} {label}{kind}", number


def published_rpc(line: str) -> Iterator[tuple[str, str, int]]:
    method, request, response = re.split(r"\((?=\w)|\) -> ", line)
    yield f"rpc {method}", f"{request} -> {response}", 0


PUBLISHED_LINES: Final[Mapping[str, Callable[[str], Iterator[tuple[str, str, int]]]]] = {
    "enum": published_enum,
    "message": published_message,
    "rpc": published_rpc,
}


# Facts as our descriptors state them


def flatten(files: FileDescriptorSet) -> dict[str, Fact]:
    """Return every fact that the descriptors of our package state."""
    facts: dict[str, Fact] = {}
    for file in files.file:
        for key, says, number in declared(file):
            assert key not in facts, f"{key} is declared twice"
            facts[key] = Fact(file.name, says, number)
    return facts


def declared(file: FileDescriptorProto) -> Iterator[tuple[str, str, int]]:
    yield from declared_enums("", file.enum_type)
    yield from declared_messages("", file.message_type)
    for service in file.service:
        for method in service.method:
            request = "stream " * method.client_streaming + relative(method.input_type)
            response = "stream " * method.server_streaming + relative(method.output_type)
            yield f"rpc {service.name}.{method.name}", f"{request} -> {response}", 0


def declared_enums(scope: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[tuple[str, str, int]]:
    for enum in enums:
        for value in enum.value:
            yield f"value {scope}{enum.name}.{value.name}", str(value.number), value.number


def declared_messages(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, str, int]]:
    for message in messages:
        name = f"{scope}{message.name}"
        yield f"message {name}", "", 0
        for field in message.field:
            yield f"field {name}.{field.name}", declared_field(field), field.number
        yield from declared_enums(f"{name}.", message.enum_type)
        yield from declared_messages(f"{name}.", message.nested_type)


def declared_field(field: FieldDescriptorProto) -> str:
    label = {
        FieldDescriptorProto.LABEL_REPEATED: "repeated ",
        FieldDescriptorProto.LABEL_REQUIRED: "required ",
    }.get(field.label, "")
    if field.proto3_optional:
        label = "optional "
    elif field.HasField("oneof_index"):
        label = "oneof "
    kind = field.type_name.removeprefix(".") or FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    return f"{field.number} {label}{kind}"


def relative(type_name: str) -> str:
    return type_name.removeprefix(f".{PACKAGE}.")


# The comparison


def differences(ours: Mapping[str, Fact], theirs: Mapping[str, Fact]) -> list[str]:
    """Return one line for each published fact that does not hold and each addition that is not allowed."""
    lines = [
        f"{key}: published {fact}, ours {ours.get(key)}"
        for key, fact in theirs.items()
        if ours.get(key) != fact
    ]
    published_files = {fact.file for fact in theirs.values()}
    for key in ours.keys() - theirs.keys():
        fact = ours[key]
        if fact.file in published_files and not is_field_of_ours(key, fact):
            lines.append(f"{key}: {fact} is no field from {FIRST_FIELD_OF_OURS} on that may be absent")
    return lines


def is_field_of_ours(key: str, fact: Fact) -> bool:
    """Whether an addition goes unnoticed when absent."""
    if not key.startswith("field ") or fact.number < FIRST_FIELD_OF_OURS:
        return False
    return fact.says.split()[1] in ("optional", "repeated")


def our_files() -> FileDescriptorSet:
    """Return the descriptors of every generated module, as a server would send them."""
    files = FileDescriptorSet()
    for module in sorted(info.name for info in pkgutil.iter_modules(tasker.v1.__path__)):
        if module.endswith("_pb2"):
            importlib.import_module(f"{PACKAGE}.{module}").DESCRIPTOR.CopyToProto(files.file.add())
    return files


THEIRS: Final = published(FACTS.read_text())


def test_the_table_of_facts_is_complete() -> None:
    assert len(THEIRS) == 722
    assert {fact.file for fact in THEIRS.values()} == {
        f"tasker/v1/{name}.proto"
        for name in (
            "analytics",
            "common",
            "config",
            "dlq",
            "health",
            "steps",
            "tasks",
            "templates",
            "worker",
        )
    }
    assert THEIRS["field Step.max_attempts"] == Fact("tasker/v1/tasks.proto", "15 int32", 15)
    assert THEIRS["field TimestampRange.end"].says == "2 optional google.protobuf.Timestamp"
    assert THEIRS["field ListTasksRequest.states"].says == "4 repeated tasker.v1.TaskState"
    assert THEIRS["value TaskStatusUpdate.UpdateType.UPDATE_TYPE_TASK_ERROR"].number == 4
    assert (
        THEIRS["rpc TaskService.StreamTaskStatus"].says
        == "StreamTaskStatusRequest -> stream TaskStatusUpdate"
    )


def test_every_published_fact_holds_and_additions_are_ours() -> None:
    assert differences(flatten(our_files()), THEIRS) == []


def test_files_are_named_as_reflection_must_show_them() -> None:
    names = {file.name for file in our_files().file}
    assert names >= {fact.file for fact in THEIRS.values()}
    assert all(re.fullmatch(r"tasker/v1/[a-z_]+\.proto", name) for name in names)


def test_our_own_fields() -> None:
    ours = {
        key: fact.says for key, fact in flatten(our_files()).items() if fact.number >= FIRST_FIELD_OF_OURS
    }
    assert {f"{key.removeprefix('field ')} {says}" for key, says in ours.items()} >= {
        "CreateTaskRequest.idempotency_key 100 optional string",
        "CreateTaskRequest.context_json 101 optional string",
        "CreateTaskResponse.already_existed 100 optional bool",
        "Task.context_json 100 optional string",
        "Task.failure 101 optional tasker.v1.TaskFailure",
        "Task.cancellation 102 optional tasker.v1.TaskCancellation",
        "Step.results_json 100 optional string",
        "Step.failure 101 optional tasker.v1.StepFailure",
        "TaskContext.inputs_json 101 optional string",
        "TaskContext.outputs_json 102 optional string",
        "TaskSummaryMetadata.failure 101 optional tasker.v1.TaskFailure",
        "TaskSummaryMetadata.cancellation 102 optional tasker.v1.TaskCancellation",
        "StepSummaryInfo.next_retry_at 101 optional string",
        "StepErrorSummary.message 101 optional string",
        "StepErrorSummary.error_class 102 optional string",
        "StepErrorSummary.error_code 103 optional string",
        "ResolveStepRequest.result_json 100 optional string",
        "GetStepAuditRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "GetStepAuditResponse.pagination 100 optional tasker.v1.PaginationResponse",
        "GetStepAuditResponse.interventions 101 repeated tasker.v1.StepIntervention",
        "StepAuditRecord.result_json 100 optional string",
        "StepAuditRecord.attempt 101 optional int32",
        "StepAuditRecord.failure 102 optional tasker.v1.StepFailure",
        "ListDlqEntriesRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "ListDlqEntriesRequest.dlq_reason 101 optional tasker.v1.DlqReason",
        "ListDlqEntriesResponse.pagination 100 optional tasker.v1.PaginationResponse",
        "GetDlqInvestigationQueueRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "GetDlqInvestigationQueueResponse.pagination 100 optional tasker.v1.PaginationResponse",
        "GetStalenessMonitoringRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "GetStalenessMonitoringResponse.pagination 100 optional tasker.v1.PaginationResponse",
        "UpdateDlqInvestigationRequest.expected_updated_at 100 optional google.protobuf.Timestamp",
        "UpdateDlqInvestigationResponse.entry 100 optional tasker.v1.DlqEntry",
        "PaginationRequest.page_token 100 optional string",
        "PaginationResponse.next_page_token 100 optional string",
        "ListTasksRequest.source_system 100 optional string",
        "ListTasksRequest.correlation_id 101 optional string",
        "ListTasksRequest.parent_correlation_id 102 optional string",
        "ListTasksRequest.tags_any 103 repeated string",
        "ListTasksRequest.updated_at 104 optional tasker.v1.TimestampRange",
        "ListTasksRequest.omit_context 105 optional bool",
        "ListStepsRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "ListTemplatesRequest.pagination 100 optional tasker.v1.PaginationRequest",
        "ListTemplatesResponse.pagination 100 optional tasker.v1.PaginationResponse",
        "CancelTaskRequest.requested_by 100 optional string",
        "TemplateDetail.input_schema_json 100 optional string",
        "StepDefinition.dependencies 100 repeated string",
        "StepDefinition.handler 101 optional string",
        "StepDefinition.step_type 102 optional string",
        "StepDefinition.result_schema_json 103 optional string",
        "StepDefinition.timeout_seconds 104 optional int32",
        "StreamTaskStatusRequest.resume_cursor 101 optional string",
        "TaskStatusUpdate.cursor 100 optional string",
        "TaskStatusUpdate.task_uuid 101 optional string",
        "TaskStatusUpdate.previous_state 102 optional tasker.v1.TaskState",
    }


# The comparison must see what it is there for


@pytest.fixture
def files() -> FileDescriptorSet:
    return our_files()


def file_of(files: FileDescriptorSet, name: str) -> FileDescriptorProto:
    return next(file for file in files.file if file.name == f"tasker/v1/{name}.proto")


def message_of(files: FileDescriptorSet, file: str, name: str) -> DescriptorProto:
    return next(message for message in file_of(files, file).message_type if message.name == name)


def field_of(files: FileDescriptorSet, file: str, message: str, name: str) -> FieldDescriptorProto:
    return next(field for field in message_of(files, file, message).field if field.name == name)


def wrong_number(files: FileDescriptorSet) -> None:
    field_of(files, "tasks", "Step", "attempts").number = 44


def wrong_type(files: FileDescriptorSet) -> None:
    field_of(files, "tasks", "Step", "attempts").type = FieldDescriptorProto.TYPE_INT64


def wrong_message_type(files: FileDescriptorSet) -> None:
    field_of(files, "tasks", "GetTaskResponse", "task").type_name = ".tasker.v1.Step"


def wrong_label(files: FileDescriptorSet) -> None:
    field_of(files, "tasks", "Task", "tags").label = FieldDescriptorProto.LABEL_OPTIONAL


def lost_presence(files: FileDescriptorSet) -> None:
    field_of(files, "tasks", "Task", "priority").ClearField("proto3_optional")


def renamed_field(files: FileDescriptorSet) -> None:
    field_of(files, "dlq", "DlqStats", "pending").name = "open"


def missing_message(files: FileDescriptorSet) -> None:
    file_of(files, "dlq").message_type.remove(message_of(files, "dlq", "GetDlqStatsRequest"))


def moved_message(files: FileDescriptorSet) -> None:
    message = message_of(files, "dlq", "GetDlqStatsRequest")
    file_of(files, "config").message_type.add().CopyFrom(message)
    file_of(files, "dlq").message_type.remove(message)


def wrong_enum_value(files: FileDescriptorSet) -> None:
    file_of(files, "common").enum_type[0].value[3].number = 33


def new_enum_value(files: FileDescriptorSet) -> None:
    file_of(files, "common").enum_type[0].value.add(name="TASK_STATE_PAUSED", number=100)


def not_streaming(files: FileDescriptorSet) -> None:
    next(m for m in file_of(files, "tasks").service[0].method if m.server_streaming).server_streaming = False


def new_method_in_a_published_service(files: FileDescriptorSet) -> None:
    method = file_of(files, "config").service[0].method.add(name="SetConfig")
    method.input_type = method.output_type = ".tasker.v1.GetConfigRequest"


def new_field_below_100(files: FileDescriptorSet) -> None:
    message_of(files, "tasks", "Step").field.add(
        name="lease", number=20, type=FieldDescriptorProto.TYPE_STRING, proto3_optional=True
    )


def new_field_without_presence(files: FileDescriptorSet) -> None:
    message_of(files, "tasks", "Step").field.add(
        name="lease", number=150, type=FieldDescriptorProto.TYPE_STRING
    )


@pytest.mark.parametrize(
    ("doctor", "caught"),
    [
        (wrong_number, "field Step.attempts"),
        (wrong_type, "field Step.attempts"),
        (wrong_message_type, "field GetTaskResponse.task"),
        (wrong_label, "field Task.tags"),
        (lost_presence, "field Task.priority"),
        (renamed_field, "field DlqStats.pending"),
        (missing_message, "message GetDlqStatsRequest"),
        (moved_message, "message GetDlqStatsRequest"),
        (wrong_enum_value, "value TaskState.TASK_STATE_ENQUEUING_STEPS"),
        (new_enum_value, "value TaskState.TASK_STATE_PAUSED"),
        (not_streaming, "rpc TaskService.StreamTaskStatus"),
        (new_method_in_a_published_service, "rpc ConfigService.SetConfig"),
        (new_field_below_100, "field Step.lease"),
        (new_field_without_presence, "field Step.lease"),
    ],
)
def test_a_deviation_is_caught(
    files: FileDescriptorSet, doctor: Callable[[FileDescriptorSet], None], caught: str
) -> None:
    doctor(files)
    assert any(line.startswith(f"{caught}: ") for line in differences(flatten(files), THEIRS))


def test_optional_fields_of_ours_and_new_files_are_welcome(files: FileDescriptorSet) -> None:
    message_of(files, "tasks", "Step").field.add(
        name="lease", number=150, type=FieldDescriptorProto.TYPE_STRING, proto3_optional=True
    )
    ours = files.file.add(name="tasker/v1/newcomer.proto")
    ours.message_type.add(name="NewcomerRequest").field.add(
        name="count", number=1, type=FieldDescriptorProto.TYPE_INT32
    )
    method = ours.service.add(name="NewcomerService").method.add(name="Come")
    method.input_type = method.output_type = ".tasker.v1.NewcomerRequest"
    assert differences(flatten(files), THEIRS) == []
