"""Arguments that are more than a word: a template's name, a context, an instant."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from tasker.domain.durations import parse_duration

_TEMPLATE: Final = re.compile(r"([^/:\s]+)/([^/:\s]+)(?:[/:]([^/:\s]+))?")


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A template, or one version of it.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        version: Its version; empty for the highest one.
    """

    namespace: str
    name: str
    version: str


def template_name(text: str) -> TemplateName:
    """Return what `shop/checkout`, `shop/checkout/1.0.0` or `shop/checkout:1.0.0` names.

    Raises:
        BadParameter: It is something else.
    """
    found = _TEMPLATE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not NAMESPACE/NAME or NAMESPACE/NAME/VERSION, such as shop/checkout/1.0.0"
        )
    return TemplateName(found[1], found[2], found[3] or "")


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value, null included.

    Attributes:
        value: It.
    """

    value: Any


def json_value(text: str) -> Json:
    """Return the JSON value in a text, in the file that `@FILE` names, or on standard input (`@-`).

    Raises:
        BadParameter: There is no such file, or what it holds is not JSON.
    """
    given, source = (_read(text[1:]), text) if text.startswith("@") else (text, "it")
    try:
        return Json(json.loads(given, parse_constant=_refuse_constant))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        fix = (
            "" if text.startswith("@") else "; quote it for your shell, or put it into a file and give @FILE"
        )
        raise typer.BadParameter(f"{source} is not JSON: {error.msg} ({where}){fix}") from None
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise typer.BadParameter(f"{source} is not JSON: {problem}") from None


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text, in the file that `@FILE` names, or on standard input (`@-`).

    Raises:
        BadParameter: There is no such file, or what it holds is no JSON object.
    """
    value = json_value(text).value
    if not isinstance(value, dict):
        source = text if text.startswith("@") else "it"
        kind = "null" if value is None else type(value).__name__
        raise typer.BadParameter(f'{source} must be a JSON object such as {{"number": 6}}, got {kind}')
    return value


def instant(text: str) -> datetime:
    """Return the instant that an ISO 8601 text names, in local time if it says no zone, or a duration ago.

    Raises:
        BadParameter: It is neither.
    """
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither an instant such as 2026-01-31T12:00:00Z nor a time ago such as 90m or 2d"
        ) from None


def _read(name: str) -> str:
    source = "standard input" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise typer.BadParameter(f"there is no file {source!r}; give @FILE, @- or the JSON itself") from None
    except OSError as error:
        raise typer.BadParameter(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{source} is no UTF-8 text") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
