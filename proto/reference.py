"""Writes the page of the contract from its descriptors: services, methods, messages, enums, all with their comments."""

from collections.abc import Callable, Iterable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from tasker.rpc.permissions import PERMISSION_OF

PACKAGE = "tasker.v1"
#: Served by workers; all other services are orchestration's.
WORKER_FILE = "tasker/v1/worker.proto"

#: Numbers of fields in descriptor.proto; source locations are paths of them.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_VALUE, _METHOD, _SYNTAX = 2, 2, 12

Path = tuple[int, ...]
#: Returns the comment of what is at a path.
Said = Callable[[Path], str]

INTRODUCTION = """\
# The contract, field by field

Generated from [proto/tasker/v1](../proto/tasker/v1) by `make proto`. How to call it is in [contract.md](contract.md).

- **Presence**: `optional` fields know absent from empty; of the others, an absent one reads as the empty value of its
  type. Fields from number 100 on may always be absent.
- **Where**: the services of `worker.proto` are on the worker's port, all others on orchestration's.
- **Needs**: the permission that a method asks for where authentication is on; methods without one are open to all.
"""


def page(descriptors: bytes) -> str:
    """Return the page for a serialized descriptor set that has its comments."""
    ours = (file for file in FileDescriptorSet.FromString(descriptors).file if file.package == PACKAGE)
    files = sorted(ours, key=lambda file: file.name)
    lines = [INTRODUCTION, *_contents(files)]
    for file in files:
        lines += ["", f"## {file.name.rpartition('/')[2]}", "", *_file(file)]
    return "\n".join(lines) + "\n"


def _contents(files: Iterable[FileDescriptorProto]) -> Iterator[str]:
    yield "| Service | Port | Methods |"
    yield "|---|---|---|"
    for file in files:
        port = "worker" if file.name == WORKER_FILE else "orchestration"
        for service in file.service:
            methods = ", ".join(method.name for method in service.method)
            yield f"| {_link(service.name)} | {port} | {methods} |"


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def said(path: Path) -> str:
        return comments.get(path, "").strip()

    yield _prose(said((_SYNTAX,)))
    for index, service in enumerate(file.service):
        yield from _service(service, (_FILE_SERVICE, index), said)
    for index, message in enumerate(file.message_type):
        yield from _message(message, message.name, (_FILE_MESSAGE, index), said)
    for index, enum in enumerate(file.enum_type):
        yield from _enum(enum, enum.name, (_FILE_ENUM, index), said)


def _service(service: ServiceDescriptorProto, at: Path, said: Said) -> Iterator[str]:
    yield from _heading(service.name, said(at))
    for index, method in enumerate(service.method):
        request, reply = _type(method.input_type), _type(method.output_type)
        yield f"- **{method.name}**({request}) → {'stream ' * method.server_streaming}{reply}  "
        if needed := PERMISSION_OF.get(f"{PACKAGE}.{service.name}", {}).get(method.name):
            yield f"  Needs `{needed}`.  "
        yield f"  {_prose(said((*at, _METHOD, index)), indent='  ')}"


def _message(message: DescriptorProto, name: str, at: Path, said: Said) -> Iterator[str]:
    if message.options.map_entry:
        return
    yield from _heading(name, said(at))
    if not message.field:
        yield "No fields."
    else:
        yield "| Field | Number | Type | Meaning |"
        yield "|---|---|---|---|"
    entries = {f".{PACKAGE}.{name}.{nested.name}": nested for nested in message.nested_type}
    for index, field in enumerate(message.field):
        meaning = _prose(said((*at, _MESSAGE_FIELD, index)), indent=None).replace("|", "\\|")
        yield f"| `{field.name}` | {field.number} | {_field_type(field, entries)} | {meaning} |"
    for index, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{name}.{nested.name}", (*at, _MESSAGE_NESTED, index), said)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.{enum.name}", (*at, _MESSAGE_ENUM, index), said)


def _enum(enum: EnumDescriptorProto, name: str, at: Path, said: Said) -> Iterator[str]:
    yield from _heading(name, said(at))
    yield "| Value | Number | Meaning |"
    yield "|---|---|---|"
    for index, value in enumerate(enum.value):
        meaning = _prose(said((*at, _VALUE, index)), indent=None).replace("|", "\\|")
        yield f"| `{value.name}` | {value.number} | {meaning} |"


def _heading(name: str, comment: str) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    if comment:
        yield _prose(comment)
        yield ""


def _field_type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    if field.type_name in entries and entries[field.type_name].options.map_entry:
        key, value = entries[field.type_name].field
        return f"map of {_scalar(key)} to {_scalar(value)}"
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if field.proto3_optional:
        label = "optional "
    return label + _scalar(field)


def _scalar(field: FieldDescriptorProto) -> str:
    return (
        _type(field.type_name) if field.type_name else FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    )


def _type(full_name: str) -> str:
    name = full_name.removeprefix(".")
    return _link(name.removeprefix(f"{PACKAGE}.")) if name.startswith(PACKAGE) else name


def _link(name: str) -> str:
    return f"[{name}](#{name.replace('.', '').lower()})"


def _prose(comment: str, indent: str | None = "") -> str:
    """Return a comment as Markdown; on one line, as a cell of a table is, without an indent."""
    lines = [line.strip() for line in comment.splitlines()]
    return " ".join(line for line in lines if line) if indent is None else f"\n{indent}".join(lines)
