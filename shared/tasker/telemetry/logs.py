"""Log lines: JSON unless a person reads them."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

#: Without local variables: those hold contexts, results and passwords.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
#: What an author's code says may be a megabyte; a line of the log takes so many characters of each text.
_LONGEST_TEXT: Final = 1_000
#: A traceback is what is looked for in it.
_LONGEST_TRACEBACK: Final = 20_000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(
    level: Literal["debug", "info", "warning", "error"],
    *,
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Set up structlog for the process; libraries that log the standard way only warn.

    Args:
        level: The lowest level that is written.
        format: `auto` means console on a terminal and JSON elsewhere.
        stream: Where to; stderr by default, so that data on stdout stays clean.
    """
    target = stream or sys.stderr
    people = format == "console" or (format == "auto" and target.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            _bounded,
            *(
                (
                    *((_without_traceback,) if level != "debug" else ()),
                    structlog.dev.ConsoleRenderer(
                        colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
                    ),
                )
                if people
                else (_TRACEBACKS, structlog.processors.JSONRenderer())
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(_LEVELS[level], logging.WARNING), stream=target, force=True)
    # psycopg_pool warns of every lost connection; the services say once what it means.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _bounded(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in line.items():
        limit = _LONGEST_TRACEBACK if key == "traceback" else _LONGEST_TEXT
        if isinstance(value, str) and len(value) > limit:
            line[key] = f"{value[:limit]}..."
    return line


def _without_traceback(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spare people the tracebacks of failed steps; what shows the task has them."""
    line.pop("traceback", None)
    return line
