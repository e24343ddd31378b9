"""Files of keys and certificates: read again when they change, so that replacing one needs no restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final, Generic, TypeVar

from tasker.domain.errors import TaskerError
from tasker.telemetry.logs import get_logger

Content = TypeVar("Content")

#: How often files that cannot be used are tried again, and the log is told, as long as somebody asks for them.
_REPEAT_SECONDS: Final = 60.0

_Stamp = tuple[int, int, int] | None

_log = get_logger(__name__)


class KeyFileError(TaskerError):
    """A file of keys or certificates, or a setting with their text, cannot be used; never says what is in it.

    Attributes:
        source: The file, or the environment variable that holds the text.
    """

    reason: ClassVar[str] = "KEY_FILE_INVALID"

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        super().__init__(f"{source}: {problem}")


def read_key_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        KeyFileError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from None


class Reloaded(Generic[Content]):
    """What some files say. When they change they are read again; while they cannot be used, the last content stays.

    Threads may share it.

    Args:
        paths: The files; symbolic links are followed, so that replacing what they lead to counts as a change.
        read: Reads them; called at once, and by whoever asks next when one of them has changed.
        read_again: Reads them when they have changed, if that is something else.
        clock: Tells the time, in seconds.

    Raises:
        KeyFileError: They cannot be used now.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], Content],
        *,
        read_again: Callable[[], Content] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._read = read_again or read
        self._clock = clock
        self._try_again_at: float | None = None
        self._lock = Lock()
        self._stamps = self._look()  # before reading: what changes meanwhile is read again
        self._content = read()

    def current(self) -> Content:
        """Return what they say now."""
        with self._lock:
            stamps = self._look()
            if stamps != self._stamps or self._is_due():
                self._stamps = stamps
                self._reload()
            return self._content

    def _reload(self) -> None:
        names = [str(path) for path in self._paths]
        try:
            self._content = self._read()
        except KeyFileError as error:
            # Keys that were taken away go on being accepted meanwhile: that is said until it is mended.
            self._try_again_at = self._clock() + _REPEAT_SECONDS
            _log.error("key_files_not_reloaded", files=names, problem=str(error))
        else:
            self._try_again_at = None
            _log.info("key_files_reloaded", files=names)

    def _is_due(self) -> bool:
        return self._try_again_at is not None and self._clock() >= self._try_again_at

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> _Stamp:
    """Return what changes with a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
