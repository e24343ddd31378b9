"""The figures of a run: medians over its rounds, and how they stand to Tasker's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.peers.roster import TASKER


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured.

    Attributes:
        name: Its name in latest.json.
        title: Its name for readers, with the unit.
        more_is_better: Whether a peer with more of it is the better one.
    """

    name: str
    title: str
    more_is_better: bool = False


FIGURES: Final = (
    Figure("chain_p50_ms", "chain P50, ms"),
    Figure("chain_p95_ms", "chain P95, ms"),
    Figure("create_p50_ms", "create P50, ms"),
    Figure("in_flight_steps_per_s", "32 in flight, steps/s", more_is_better=True),
    Figure("drain_steps_per_s", "drain, steps/s", more_is_better=True),
    Figure("fan_ms", "fan 1-100-1, ms"),
    Figure("memory_mb", "memory, MB"),
    Figure("idle_cpu_ms_per_s", "idle CPU, ms/s"),
    Figure("idle_server_cpu_ms_per_s", "idle CPU of the server, ms/s"),
    Figure("idle_transactions_per_s", "idle transactions/s"),
)

#: What one turn of one peer gave, by the name of the figure.
Turn = Mapping[str, float]


@dataclass(slots=True)
class Run:
    """What a run has measured so far, and whom it left out."""

    versions: dict[str, str] = field(default_factory=dict)
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, turn: Turn) -> None:
        """Add what a turn of a peer gave."""
        self.turns.setdefault(peer, []).append(turn)

    def leave_out(self, peer: str, reason: str) -> None:
        """Leave a peer out of the rest, and of the figures: what it gave before is not of all rounds."""
        self.left_out[peer] = reason
        self.turns.pop(peer, None)

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the figures of the peers, in the order of `versions`: medians of the turns that measured them."""
        return {peer: median_of(self.turns[peer]) for peer in self.versions if peer in self.turns}

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for latest.json."""
        medians = self.medians()
        return {
            "versions": self.versions,
            "medians": medians,
            "ratios": ratios(medians),
            "turns": {peer: [dict(turn) for turn in turns] for peer, turns in self.turns.items()},
            "left_out": self.left_out,
        }


def median_of(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the median of each figure over the turns that measured it."""
    names = dict.fromkeys(name for turn in turns for name in turn)
    return {name: statistics.median(turn[name] for turn in turns if name in turn) for name in names}


def ratios(medians: Mapping[str, Mapping[str, float]], to: str = TASKER) -> dict[str, dict[str, float]]:
    """Return each figure of each peer divided by Tasker's; what Tasker has none or nothing of is left out."""
    base = medians.get(to, {})
    return {
        peer: {name: value / base[name] for name, value in figures.items() if base.get(name)}
        for peer, figures in medians.items()
    }


def rows(medians: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return a row for each figure: its title and a cell for each peer, `12.3 (x2.10)`, Tasker's without a ratio."""
    compared = ratios(medians)
    return [
        [figure.title, *(_cell(figure.name, peer, medians[peer], compared[peer]) for peer in medians)]
        for figure in FIGURES
    ]


def shown(value: float) -> str:
    """Return a value as readers want it: three digits that say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _cell(name: str, peer: str, figures: Turn, compared: Turn) -> str:
    if name not in figures:
        return "-"
    value = shown(figures[name])
    return value if peer == TASKER or name not in compared else f"{value} (x{compared[name]:.2f})"
