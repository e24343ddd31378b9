"""The picture of a run: a panel for each figure, a bar for each peer.

`python -m benchmarks.peers.picture latest.json picture.svg` draws it anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

from benchmarks.peers.figures import FIGURES, Figure, shown
from benchmarks.peers.roster import TASKER

_COLUMNS: Final = 2
_PANEL_WIDTH: Final = 460
_NAMES_WIDTH: Final = 125
_VALUES_WIDTH: Final = 75
_BAR: Final = 14
_LINE: Final = 20
_HEAD: Final = 30
_GAP: Final = 20
_OURS: Final = "#1f6feb"
_THEIRS: Final = "#9aa4b2"


def draw(medians: Mapping[str, Mapping[str, float]]) -> str:
    """Return the SVG of the medians of a run, by peer and name of the figure."""
    panels = [
        (figure, {peer: figures[figure.name] for peer, figures in medians.items() if figure.name in figures})
        for figure in FIGURES
    ]
    drawn = [(figure, values) for figure, values in panels if values]
    panel_height = _HEAD + _LINE * len(medians) + _GAP
    width = _COLUMNS * _PANEL_WIDTH + _GAP
    height = -(-len(drawn) // _COLUMNS) * panel_height + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, (figure, values) in enumerate(drawn):
        row, column = divmod(place, _COLUMNS)
        lines.append(f'<g transform="translate({_GAP + column * _PANEL_WIDTH} {_GAP + row * panel_height})">')
        lines += _panel(figure, values)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(figure: Figure, values: Mapping[str, float]) -> list[str]:
    better = "more is better" if figure.more_is_better else "less is better"
    lines = [
        f'<text x="0" y="12" font-weight="bold">{escape(figure.title)}'
        f'<tspan dx="6" font-weight="normal" fill="#6b7280">({better})</tspan></text>'
    ]
    room = _PANEL_WIDTH - _GAP - _NAMES_WIDTH - _VALUES_WIDTH
    most = max(values.values()) or 1
    for line, (peer, value) in enumerate(values.items()):
        top = _HEAD + line * _LINE - _BAR // 2
        long = max(1.0, room * value / most)
        lines += [
            f'<text x="{_NAMES_WIDTH - 8}" y="{top + 11}" text-anchor="end">{escape(peer)}</text>',
            f'<rect x="{_NAMES_WIDTH}" y="{top}" width="{long:.1f}" height="{_BAR}" '
            f'fill="{_OURS if peer == TASKER else _THEIRS}"/>',
            f'<text x="{_NAMES_WIDTH + long + 6:.1f}" y="{top + 11}">{shown(value)}</text>',
        ]
    return lines


if __name__ == "__main__":
    source, target = (Path(argument) for argument in sys.argv[1:])
    target.write_text(draw(json.loads(source.read_text())["medians"]))
