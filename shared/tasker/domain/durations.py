"""Durations as people write them: `90s`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_SECONDS: Final = {"w": 604_800, "d": 86_400, "hr": 3600, "h": 3600, "m": 60, "s": 1}
_WHOLE: Final = re.compile(r"(?:[0-9]{1,9}\s*(?:w|d|hr|h|m|s)\s*)+", re.ASCII)
_PART: Final = re.compile(r"([0-9]+)\s*(w|d|hr|h|m|s)", re.ASCII)
_LONGEST: Final = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """Return the duration written as numbers with the units w, d, hr, h, m, s.

    Raises:
        ValueError: The text is something else, or the duration is zero or longer than 100 years.

    """
    if _WHOLE.fullmatch(text.strip()) is None:
        raise ValueError(f"'{text}' is not a duration such as 90s, 45m, 12h, 7d or 1h30m")
    duration = timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
    if not timedelta(0) < duration <= _LONGEST:
        raise ValueError(f"'{text}' must be more than zero and at most 100 years")
    return duration
