"""Log lines: JSON unless a person reads them. The services' own lines, and those of handlers that set up nothing else.

What authors of handlers configure, of `logging` or of structlog, is theirs: it holds for their lines, and changes none
of the services', whose loggers come from `get_logger` and look at neither.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

#: Without local variables: those hold contexts, results and passwords.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
#: What an author's code says may be a megabyte; a line of the log takes so many characters of each text.
_LONGEST_TEXT: Final = 1_000
#: A traceback is what is looked for in it.
_LONGEST_TRACEBACK: Final = 20_000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: What a line is of; these come first, in this order.
_FIRST: Final = ("correlation_id", "task_uuid", "step_uuid", "step_name", "attempt")
#: Libraries that tell more than anybody wants to know, unless somebody asks for it.
_TALKATIVE: Final = ("asyncio", "grpc", "httpcore", "httpx", "psycopg", "urllib3")

#: What each line of the services passes; `configure_logs` changes it in place.
PROCESSORS: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.StackInfoRenderer(),
    structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
]


class _Output:
    """Where lines go: stderr as it is at that moment, unless `configure_logs` says otherwise."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None

    def __getattr__(self, level: str) -> Any:
        return getattr(structlog.PrintLogger(self.stream or sys.stderr), level)


_OUTPUT: Final = _Output()
#: Processors are handed a logger, which those here do not look at.
_NOBODY: Final = logging.getLogger(__name__)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger of a service: whatever a handler's module does to structlog, its lines stay what they are.

    Args:
        name: The module it is for.
    """
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _OUTPUT,
        processors=PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        context_class=dict,
        cache_logger_on_first_use=False,
        logger_factory_args=(name,),
    )
    return logger


def bind_step(fields: Mapping[str, object]) -> None:
    """Add what says which step they are of to all lines of the current context, and of those copied from it."""
    structlog.contextvars.bind_contextvars(**fields)


def configure_logs(
    level: Literal["debug", "info", "warning", "error"],
    *,
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Set up the log of the process.

    Lines of `logging` and of structlog go there, too, as long as nobody sets up their own: `logging.basicConfig`, a
    handler at the root logger or `structlog.configure` take the lines that are theirs, whenever they are called.
    Libraries only warn.

    Args:
        level: The lowest level that is written.
        format: `auto` means console on a terminal and JSON elsewhere.
        stream: Where to; stderr by default, so that data on stdout stays clean.
    """
    target = stream or sys.stderr
    _OUTPUT.stream = target
    people = format == "console" or (format == "auto" and target.isatty())
    renderers: Sequence[Processor] = (
        (
            *((_without_traceback,) if level != "debug" else ()),
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
            ),
        )
        if people
        else (_TRACEBACKS, structlog.processors.JSONRenderer())
    )
    PROCESSORS[:] = [
        _AtLeast(_LEVELS[level]),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _bounded,
        _ordered,
        *renderers,
    ]
    structlog.configure(
        processors=list(PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _OUTPUT,
        cache_logger_on_first_use=False,
    )
    # Not at the root logger: there it would keep `basicConfig` from having any effect.
    logging.lastResort = _LastResort(_LEVELS[level])
    logging.getLogger().setLevel(_LEVELS[level])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))
    # psycopg_pool warns of every lost connection; the services say once what it means.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class _AtLeast:
    """Drops the lines below a level."""

    def __init__(self, level: int) -> None:
        self._level = level

    def __call__(self, _: object, name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS.get(name, logging.CRITICAL) < self._level:
            raise structlog.DropEvent
        return line


class _LastResort(logging.Handler):
    """Writes what is logged with `logging` into the service's log, if nobody else takes it."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._extras = structlog.stdlib.ExtraAdder()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one of the service's lines, with what was given to it as `extra`."""
        try:
            name = record.levelname.lower()
            line = dict(self._extras(_NOBODY, name, {"_record": record}))
            del line["_record"]
            line |= {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                line["exc_info"] = record.exc_info
            if record.stack_info:
                line["stack"] = record.stack_info
            written: Any = line
            for processor in PROCESSORS:
                written = processor(_NOBODY, name, written)
            _OUTPUT.msg(written)
        except structlog.DropEvent:
            pass
        except Exception:
            self.handleError(record)


def _bounded(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in line.items():
        limit = _LONGEST_TRACEBACK if key == "traceback" else _LONGEST_TEXT
        if isinstance(value, str) and len(value) > limit:
            line[key] = f"{value[:limit]}..."
    return line


def _ordered(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: line[key] for key in _FIRST if key in line} | dict(line)


def _without_traceback(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spare people the tracebacks of failed steps; what shows the task has them."""
    line.pop("traceback", None)
    return line
