"""The peers: what each is called, and what its programs are run by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Peer:
    """One of those that are compared.

    Attributes:
        name: What `PEERS` calls it.
        language: What its programs are written in.
        package: Name of its package there; its pinned version stands in `requirements` or beside its program.
        python: Oldest Python that its package takes.
        works_in_creator: Whether the program that creates a chain runs it as well, and a worker only what is enqueued.
    """

    name: str
    language: Literal["tasker", "python", "go", "node"]
    package: str
    python: tuple[int, int] = (3, 10)
    works_in_creator: bool = False


TASKER: Final = "tasker"
PEERS: Final = (
    Peer(TASKER, "tasker", "tasker-engine"),
    Peer("river", "go", "github.com/riverqueue/river"),
    Peer("graphile-worker", "node", "graphile-worker"),
    Peer("procrastinate", "python", "procrastinate"),
    Peer("pgqueuer", "python", "pgqueuer"),
    Peer("absurd", "python", "absurd-sdk"),
    Peer("dbos", "python", "dbos", works_in_creator=True),
    Peer("oban", "python", "oban", python=(3, 12)),
)


def chosen(names: str, peers: Sequence[Peer] = PEERS) -> list[Peer]:
    """Return the peers that a comma-separated list names, Tasker always; all of them if it names none.

    Raises:
        ValueError: It names one that is not known.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if unknown := wanted - {peer.name for peer in peers}:
        raise ValueError(
            f"PEERS names {', '.join(sorted(unknown))}; known are {', '.join(peer.name for peer in peers)}"
        )
    return [peer for peer in peers if not wanted or peer.name in wanted | {TASKER}]
