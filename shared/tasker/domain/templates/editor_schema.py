"""The template format as JSON Schema, for editors: docs/template.schema.json.

`python -m tasker.domain.templates.editor_schema` prints it.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from tasker.domain.templates import document
from tasker.domain.templates.normalisation import TEMPLATE, Section

#: The draft that editors know best.
_DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def template_schema() -> dict[str, Any]:
    """Return the JSON Schema of a template as people write it, aliases and old keys included.

    It sees what concerns one key. What concerns several, such as cycles, only `validation.validate` sees.
    """
    schema = document.Template.model_json_schema(ref_template="#/definitions/{model}")
    definitions: dict[str, dict[str, Any]] = _cleaned(schema.pop("$defs"))
    definitions["Template"] = _cleaned(schema)
    texts = _docstrings()
    for section in _sections(TEMPLATE):
        name = section.part.__name__
        definitions[name] = _as_written(definitions[name], section, texts)
    del definitions["Template"]["properties"]["loaded_from"]
    top = definitions.pop("Template") | {"description": "A workflow of Tasker, in one version."}
    return {"$schema": _DRAFT, "title": "Tasker template"} | top | {"definitions": definitions}


def _sections(section: Section) -> Iterator[Section]:
    """Yield a section and all within it, each part once."""
    seen: set[str] = set()
    todo = [section]
    while todo:
        here = todo.pop()
        if here.part.__name__ not in seen:
            seen.add(here.part.__name__)
            yield here
            todo.extend([*here.one.values(), *here.many.values(), *here.by_name.values()])


def _as_written(definition: Mapping[str, Any], section: Section, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of a part with its descriptions and with everything else it may be written as."""
    properties = {
        key: _respelled(key, schema, section) | {"description": _description(key, section.part, texts)}
        for key, schema in definition["properties"].items()
    }
    for alias, key in section.aliases.items():
        properties[alias] = properties[key] | {"description": f"The same as {key}."}
    for old, key in section.renamed.items():
        properties[old] = properties[key] | {"deprecationMessage": f"The old name of {key}; write {key}."}
    for old in sorted(section.dropped):
        properties[old] = {"deprecationMessage": "It has no effect any more; remove it."}
    kept = {name: value for name, value in definition.items() if name != "required"}
    kept |= {"properties": properties, "additionalProperties": False}
    return kept | _required(definition.get("required", ()), section)


def _respelled(key: str, schema: Mapping[str, Any], section: Section) -> dict[str, Any]:
    """Return the schema of a key with the other spellings of its value."""
    others: dict[str, Any] | None = None
    if key in section.values:
        others = {"enum": [*section.values[key]]}
    elif key in section.one and section.one[key].shorthand:
        others = {"type": "string"}
    if others is None:
        return dict(schema)
    outside = {name: value for name, value in schema.items() if name == "default"}
    return {"anyOf": [{name: schema[name] for name in schema.keys() - outside}, others]} | outside


def _description(key: str, part: type[document.Part], texts: Mapping[str, str]) -> str:
    """Return what stands below a key, in its part or in the one it is inherited from."""
    field = next(name for name, info in part.model_fields.items() if (info.alias or name) == key)
    places = (f"{owner.__name__}.{field}" for owner in part.__mro__)
    return next(texts[place] for place in places if place in texts)


def _required(keys: Sequence[str], section: Section) -> dict[str, Any]:
    """Return what must be there; a key that has another name under either of them."""
    choices = [
        {"anyOf": [{"required": [key]}, {"required": [alias]}]}
        for alias, key in section.aliases.items()
        if key in keys
    ]
    rest = [key for key in keys if key not in section.aliases.values()]
    return ({"required": rest} if rest else {}) | ({"allOf": choices} if choices else {})


def _cleaned(schema: Any) -> Any:
    """Leave out what says nothing: titles made of names, and that null is the default."""
    if isinstance(schema, dict):
        named = {"properties": {key: _cleaned(part) for key, part in schema.get("properties", {}).items()}}
        said = {
            key: _cleaned(value)
            for key, value in schema.items()
            if key not in ("title", "properties") and not (key == "default" and value is None)
        }
        return said | (named if named["properties"] else {})
    return [_cleaned(item) for item in schema] if isinstance(schema, list) else schema


def _docstrings() -> dict[str, str]:
    """Return what stands below the keys of each part, by `Part.key`; at run time Python keeps none of it."""
    found: dict[str, str] = {}
    parts = ast.parse(inspect.getsource(document)).body
    for part in (part for part in parts if isinstance(part, ast.ClassDef)):
        for key, text in pairwise(part.body):
            if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[f"{part.name}.{ast.unparse(key.target)}"] = ast.literal_eval(text.value)
    return found


def as_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(template_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
