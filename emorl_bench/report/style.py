"""The style of all figures. They are made without pyplot, so they need no global state and no display."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK = "#222222"
SURFACE = "cividis"
BETTER = "→ better"  # at the end of an axis label: the way to higher values
LESS = "← better"
LETTER, SAMPLE = 0.088, 0.75  # inches of a legend's entry: a letter, and the sample with its gaps

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
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "emorl-bench",  # the same figure gives the same file
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure in this style, written to ``path`` (a PNG) and beside it as SVG when the block ends."""
    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        yield drawing
        drawing.savefig(path)
        drawing.set_layout_engine("none")  # one layout serves both files
        drawing.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def legend(drawing: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend below the panels, with as many columns as fit the figure."""
    entry = max(map(len, names), default=0) * LETTER + SAMPLE
    columns = max(1, min(6, len(names), int(drawing.get_figwidth() / entry)))
    drawing.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=1.6)


def heading(drawing: Any, text: str) -> None:
    """The title of a figure with several panels."""
    drawing.suptitle(text, fontweight="bold", x=0.02, ha="left", fontsize=11.5)


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
