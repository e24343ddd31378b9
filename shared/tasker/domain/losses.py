"""Steps that lose their workers: which of them are to blame."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

#: From so many lost workers on a step is suspected to end them, and runs alone.
SUSPECT_LOSSES: Final = 2
#: A suspect that has lost so many, the last one while it ran alone, is what ends them. Where a step has more attempts,
#: it may lose that many workers, up to the next figure.
LOSSES_OF_A_CULPRIT: Final = 4
MOST_LOSSES_OF_A_CULPRIT: Final = 10


class Company(StrEnum):
    """What else its worker ran while a step was running."""

    BESIDE = "beside"  # others
    WAITING = "waiting"  # others, which it waited for: it had not begun
    ALONE = "alone"


def is_suspect(losses: int) -> bool:
    """Tell whether a step has lost so many workers that it has to run alone."""
    return losses >= SUSPECT_LOSSES


def is_culprit(losses: int, company: Company, *, max_attempts: int) -> bool:
    """Tell whether a step is given up after a further loss.

    Args:
        losses: Workers it has lost, this one included.
        company: In which it lost this one. Beside others it may lose one more.
        max_attempts: How often its template has it run.
    """
    limit = max(LOSSES_OF_A_CULPRIT, min(max_attempts, MOST_LOSSES_OF_A_CULPRIT))
    return losses >= (limit if company is Company.ALONE else limit + 1)
