"""The style of all figures: each method has one colour and one marker, which are the same in all figures.

The colours are Okabe & Ito's, then three of Tol's. People with colour-vision deficiencies can tell them apart; markers
carry the same information in print. Figures are made without pyplot, so they need no global state and no display.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B", "#882255", "#332288", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
INK = "#222222"
PALE = "#C9C9C9"
SURFACE = "cividis"

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 10.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8A8A8A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECECEC",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.dpi": 160,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """One method's colour and marker."""

    colour: str
    marker: str


def looks(methods: Sequence[str], reference: str) -> dict[str, Look]:
    """The looks of all methods: the reference first, the others by name.

    So a method has the same look in every figure.
    """
    ordered = sorted(methods, key=lambda name: (name != reference, name))
    return {name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(ordered)}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure in this style, which is written to ``path`` when the block ends."""
    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        yield drawing
        drawing.savefig(path, bbox_inches="tight", pad_inches=0.15)


def grid_columns(count: int) -> int:
    """Number of panels in a row: at most three; two for four panels."""
    return 2 if count == 4 else min(3, count)


def panels(drawing: Any, count: int, columns: int, **shared: Any) -> list[Any]:
    """``count`` axes in rows of ``columns``. Places that are left over in the last row stay empty."""
    rows = -(-count // columns)
    axes = list(drawing.subplots(rows, columns, squeeze=False, **shared).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    for lowest in axes[max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)  # also where the panel below is one of the empty ones
    return axes[:count]
