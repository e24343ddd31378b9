"""The comparison with peers, as far as it is ours: who takes part, in what order, and what becomes of the figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peers import figures, installing, picture, program, run
from benchmarks.peers.errors import PeerFailedError, PeerMissingError
from benchmarks.peers.figures import FIGURES, Run
from benchmarks.peers.roster import PEERS, TASKER, Peer, chosen
from benchmarks.peers.scale import Scale

HERE = Peer(TASKER, "tasker", "tasker-engine")
FAST = Peer("fast", "python", "fast-queue")
SLOW = Peer("slow", "python", "slow-queue")


def test_all_peers_take_part_unless_some_are_named() -> None:
    assert chosen("") == list(PEERS)


def test_tasker_takes_part_whoever_is_named() -> None:
    assert [peer.name for peer in chosen("river, dbos")] == [TASKER, "river", "dbos"]


def test_an_unknown_peer_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"PEERS names rivre; known are tasker, river"):
        chosen("rivre")


def test_scaling_changes_the_chains_and_not_how_many_are_in_flight() -> None:
    tenth = Scale.of(0.1)
    assert (tenth.chains_in_flight, tenth.chains_in_backlog, tenth.width) == (34, 100, Scale().width)


@pytest.mark.parametrize("factor", [0.0, 0.001])
def test_the_smallest_scale_still_measures_everything(factor: float) -> None:
    least = Scale.of(factor)
    assert least.rounds == 1
    assert least.chains_one_by_one >= 2
    assert least.chains_in_flight >= least.width
    assert least.fans == 1
    assert least.idle_seconds >= 1


def test_a_larger_scale_does_not_watch_idleness_for_longer() -> None:
    assert Scale.of(5).idle_seconds == Scale().idle_seconds


def test_each_round_has_an_order_of_its_own_that_is_the_same_in_each_run() -> None:
    orders = [run.in_turn("abcdefgh", number) for number in range(3)]
    assert orders == [run.in_turn("abcdefgh", number) for number in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list("abcdefgh") for order in orders)
    assert run.in_turn([], 1) == []


def test_a_figure_is_the_median_of_the_turns_that_measured_it() -> None:
    turns = [{"fan_ms": 1.0}, {"fan_ms": 9.0, "memory_mb": 7.0}, {"fan_ms": 2.0}]
    assert figures.median_of(turns) == {"fan_ms": 2.0, "memory_mb": 7.0}


def test_ratios_are_to_tasker_and_none_is_to_nothing() -> None:
    medians = {
        TASKER: {"fan_ms": 100.0, "idle_cpu_ms_per_s": 0.0},
        "fast": {"fan_ms": 50.0, "idle_cpu_ms_per_s": 1.0},
    }
    assert figures.ratios(medians) == {TASKER: {"fan_ms": 1.0}, "fast": {"fan_ms": 0.5}}


def test_without_tasker_there_are_no_ratios() -> None:
    assert figures.ratios({"fast": {"fan_ms": 50.0}}) == {"fast": {}}


def test_the_table_has_a_row_a_figure_and_a_cell_a_peer() -> None:
    rows = figures.rows({TASKER: {"fan_ms": 1234.5}, "fast": {"fan_ms": 61.7}})
    assert [row[0] for row in rows] == [figure.title for figure in FIGURES]
    assert ["fan 1-100-1, ms", "1,234", "61.7 (x0.05)"] in rows
    assert ["memory, MB", "-", "-"] in rows


def test_the_picture_has_a_bar_for_each_figure_of_each_peer() -> None:
    medians = {TASKER: {"fan_ms": 100.0, "memory_mb": 0.0}, "fast": {"fan_ms": 50.0}}
    drawn = ElementTree.fromstring(picture.draw(medians))
    bars = list(drawn.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    long = [float(bar.attrib["width"]) for bar in bars]
    assert len(bars) == 3
    assert long[0] == pytest.approx(2 * long[1], abs=0.1)


async def test_a_peer_that_cannot_be_installed_is_left_out_by_name_and_the_run_goes_on(stage: Stage) -> None:
    stage.missing["slow"] = "there is no Go"
    measured = await stage.measure(HERE, SLOW, FAST)
    assert measured.left_out == {"slow": "there is no Go"}
    assert list(measured.medians()) == [TASKER, "fast"]


async def test_a_peer_that_fails_in_a_later_round_leaves_no_figures_behind(stage: Stage) -> None:
    stage.failing["fast"] = 1
    measured = await stage.measure(HERE, FAST)
    assert measured.left_out == {"fast": "it ended at 'fan': out of luck"}
    assert json.loads(json.dumps(measured.as_json()))["turns"].keys() == {TASKER}


async def test_idleness_is_measured_in_the_last_round_only(stage: Stage) -> None:
    await stage.measure(HERE, FAST)
    assert stage.idle == [False, False, False, False, True, True]


async def test_a_run_without_anybody_ends(stage: Stage) -> None:
    stage.missing[TASKER] = "no"
    assert (await stage.measure(HERE)).medians() == {}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


class Stage:
    """A run without peers and without a server: what each would do is said beforehand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.missing: dict[str, str] = {}
        self.failing: dict[str, int] = {}
        self.idle: list[bool] = []
        self._turns: dict[str, int] = {}
        monkeypatch.setattr(run, "_prepare", self._prepare)
        monkeypatch.setattr("benchmarks.peers.turn.take", self._take)
        monkeypatch.setattr(installing, "version", lambda peer: "1.0")

    async def measure(self, *peers: Peer) -> Run:
        return await run.measure(peers, Scale(), "postgresql:///tasker?host=nowhere", Path())

    async def _prepare(self, peer: Peer, *_: object) -> str:
        if peer.name in self.missing:
            raise PeerMissingError(self.missing[peer.name])
        return peer.name

    async def _take(self, name: str, scale: Scale, server_url: str, *, idle: bool) -> dict[str, float]:
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        if self.failing.get(name) == turn:
            raise PeerFailedError("it ended at 'fan'", "out of luck")
        self.idle.append(idle)
        return {"fan_ms": 1.0}


def test_every_peer_has_its_version_pinned() -> None:
    for peer in PEERS:
        if peer.language != "tasker":
            assert installing.pinned(peer).strip("v")[0].isdigit()


def test_nothing_that_is_pinned_names_an_address() -> None:
    pins = [
        *(installing.FOLDER / "requirements").iterdir(),
        *(installing.FOLDER / "programs").rglob("package.json"),
    ]
    assert pins
    for file in pins:
        assert "://" not in file.read_text()


def test_a_peer_that_wants_a_newer_python_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS_PYTHON", sys.executable)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PeerMissingError, match=r"future-queue needs Python 9\.0, .* PEERS_PYTHON"):
        installing.interpreter(Peer("future", "python", "future-queue", python=(9, 0)))


ECHO = "import sys\nprint('{}', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
DIES = "import sys\nprint('{}', flush=True)\nsys.stdin.readline()\nsys.exit('the disk is full')"


async def test_a_program_answers_and_stops_when_its_input_ends(tmp_path: Path) -> None:
    async with program.running([sys.executable, "-c", ECHO], tmp_path / "log") as echo:
        assert await echo.ask("fan", times=2) == {"do": "fan", "times": 2}


async def test_a_program_that_dies_is_quoted(tmp_path: Path) -> None:
    async with program.running([sys.executable, "-c", DIES], tmp_path / "log") as dying:
        with pytest.raises(PeerFailedError, match="it ended at 'fan': the disk is full"):
            await dying.ask("fan", times=2)


async def test_a_program_that_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    silent = ECHO.replace("print(line, end='', flush=True)", "pass")
    async with program.running([sys.executable, "-c", silent], tmp_path / "log") as asleep:
        with pytest.raises(PeerFailedError, match="'fan' took longer than 0 s"):
            await asleep.ask("fan", timeout=0.05, times=2)


async def test_a_command_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(PeerFailedError, match="failed: no such database"):
        await program.run(
            [sys.executable, "-c", "import sys; sys.exit('no such database')"], tmp_path / "log"
        )
