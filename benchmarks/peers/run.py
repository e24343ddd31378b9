"""`make bench-peers`: the peers take turns in rounds; print a table, write latest.json and latest.svg."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.peers import figures, installing, picture, turn
from benchmarks.peers.errors import PeerError
from benchmarks.peers.figures import Run
from benchmarks.peers.roster import TASKER, Peer, chosen
from benchmarks.peers.scale import Scale
from benchmarks.peers.services import Services
from benchmarks.peers.turn import Contestant, Programs
from tasker.persistence.embedded import embedded_server

_LATEST: Final = Path(__file__).parent / "latest.json"
_PICTURE: Final = Path(__file__).parent / "latest.svg"
_console = Console()


def main() -> None:
    """Run, print, write."""
    peers = chosen(os.environ.get("PEERS", ""))
    scale = Scale.of(float(os.environ.get("BENCH_SCALE", "1")))
    with (
        tempfile.TemporaryDirectory(prefix="tasker-peers-") as folder,
        embedded_server(Path(folder) / "data") as server_url,
    ):
        run = asyncio.run(measure(peers, scale, server_url, Path(folder)))
    _LATEST.write_text(json.dumps(run.as_json(), indent=2) + "\n")
    _PICTURE.write_text(picture.draw(run.medians()))
    _show(run)


async def measure(peers: Sequence[Peer], scale: Scale, server_url: str, folder: Path) -> Run:
    """Have the peers take their turns; one that fails is left out from then on.

    Args:
        peers: Who is compared.
        scale: How much of each scenario.
        server_url: URL of the database `tasker` of a server.
        folder: Where the peers' logs go.
    """
    run = Run()
    contestants: dict[str, Contestant] = {}
    for peer in peers:
        try:
            contestants[peer.name] = await _prepare(peer, scale, server_url, folder)
            run.versions[peer.name] = installing.version(peer)
        except PeerError as error:
            _leave_out(run, peer.name, error)
    for number in range(scale.rounds):
        for name in in_turn([name for name in contestants if name not in run.left_out], number):
            try:
                idle = number == scale.rounds - 1
                run.add(name, await turn.take(contestants[name], scale, server_url, idle=idle))
            except (PeerError, TimeoutError) as error:
                _leave_out(run, name, error)
            else:
                _console.print(f"round {number + 1} of {scale.rounds}: {name}")
    return run


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """Return who comes after whom in the round of a number: another order in each, the same in each run."""
    return Random(number).sample(names, len(names))


async def _prepare(peer: Peer, scale: Scale, server_url: str, folder: Path) -> Contestant:
    """Install a peer and make its database."""
    command = await asyncio.to_thread(installing.command, peer)
    database = "bench_" + peer.name.replace("-", "_")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    url = server_url.replace("/tasker?", f"/{database}?")
    log = folder / f"{peer.name}.log"
    contestant: Contestant
    if peer.name == TASKER:
        contestant = Services(command, url, database, log, backlog=scale.chains_in_backlog)
    else:
        contestant = Programs(command, url, database, log, peer.works_in_creator)
    await contestant.set_up()
    return contestant


def _leave_out(run: Run, name: str, error: Exception) -> None:
    run.leave_out(name, str(error) or type(error).__name__)
    _console.print(f"{name} is left out: {run.left_out[name]}", markup=False)


def _show(run: Run) -> None:
    medians = run.medians()
    table = Table("figure", *medians, title="Medians over the rounds, and (their ratio to Tasker's)")
    for row in figures.rows(medians):
        table.add_row(*row)
    # Cells that are cut short say nothing; a terminal that is too narrow breaks the lines.
    Console(width=max(_console.width, 35 + 19 * len(medians))).print(table)
    for name, version in run.versions.items():
        _console.print(f"{name} {version}", markup=False, highlight=False)
    for name, reason in run.left_out.items():
        _console.print(f"left out: {name}: {reason}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
