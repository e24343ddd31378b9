"""How much of each scenario a round has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The parts of one round.

    Attributes:
        rounds: How often each peer has its turn.
        chains_one_by_one: Chains run alone, in a round.
        chains_in_flight: Chains run with `width` of them in flight, in a round.
        chains_in_backlog: Chains that wait when the worker starts, in a round.
        fans: Fans run alone, in a round.
        width: Chains in flight at once.
        warm_up: Chains that come first and are not counted.
        idle_seconds: How long nothing is to do, in the last round.
    """

    rounds: int = 3
    chains_one_by_one: int = 34
    chains_in_flight: int = 340
    chains_in_backlog: int = 1000
    fans: int = 2
    width: int = 32
    warm_up: int = 10
    idle_seconds: float = 10

    @classmethod
    def of(cls, factor: float) -> Scale:
        """Return the scale with its numbers of chains, and the time of idleness, multiplied by a factor."""
        whole = cls()
        return cls(
            rounds=whole.rounds if factor >= 0.1 else 1,
            chains_one_by_one=max(2, round(whole.chains_one_by_one * factor)),
            chains_in_flight=max(whole.width, round(whole.chains_in_flight * factor)),
            chains_in_backlog=max(whole.width, round(whole.chains_in_backlog * factor)),
            fans=max(1, round(whole.fans * factor)),
            idle_seconds=max(1.0, whole.idle_seconds * min(factor, 1)),
        )
