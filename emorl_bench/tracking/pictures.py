"""Pictures of one run as PNG: its front, its search surface, and its scores by scorer, held-out scorer and gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Record = Mapping[str, Any]
Floats = NDArray[np.float64]

DPI = 110
INCHES = 3.6  # of a panel's side
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # where weight 1 on each of three experts is drawn
SETS = {"objectives": ("scorer", "#0072B2"), "held_out": ("held-out", "#E69F00"), "gold": ("gold", "#009E73")}


def pictures(summary: Record, search: Sequence[Record]) -> dict[str, bytes]:
    """Name -> PNG; no picture of what a run does not have.

    Args:
        summary: the content of ``summary.json``.
        search: the rows of ``search.jsonl``.
    """
    if not summary.get("decoding"):
        return {}
    decoding, graded = next(iter(summary["decoding"].items()))
    names = list(summary["objectives"])
    found = {"scores": _scores(graded["uniform"], names, decoding)}
    if len(names) > 1:
        found["front"] = _front(graded, names, decoding)
    if asked := [row for row in search if sum(row["weights"]) > 0]:
        found["search"] = _search(asked, names)
    return found


def _front(graded: Record, names: Sequence[str], decoding: str) -> bytes:
    """A panel for each pair of objectives; a point answers a preference, the star the uniform one."""
    pairs = list(combinations(range(len(names)), 2))
    scores = [
        [np.nan if point["objectives"][n] is None else point["objectives"][n] for n in names]
        for point in graded["points"]
    ]
    points_WK, uniform = np.array(scores, dtype=np.float64), graded["uniform"]["objectives"]
    with _figure(len(pairs)) as (figure, canvas):
        for place, (x, y) in enumerate(pairs, start=1):
            axes = figure.add_subplot(1, len(pairs), place)
            axes.scatter(points_WK[:, x], points_WK[:, y], s=28, color="#0072B2", alpha=0.7, label="a preference")
            axes.scatter(uniform[names[x]], uniform[names[y]], s=110, marker="*", color="#D55E00", label="uniform")
            axes.set_xlabel(f"{names[x]} (right is better)")
            axes.set_ylabel(f"{names[y]} (up is better)")
        figure.axes[0].legend(fontsize=8)
        figure.suptitle(f"front, {decoding} decoding", fontsize=10)
    return canvas.getvalue()


def _search(rows: Sequence[Record], names: Sequence[str]) -> bytes:
    """The utility of each blend: over the simplex for three experts, else over the order in which they were asked."""
    weights_WM = np.array([row["weights"] for row in rows], dtype=np.float64)
    wanted = [row["preference"] for row in rows]
    uniform_W = np.isclose(np.array(wanted, dtype=np.float64), 1 / len(wanted[0]), atol=1e-6).all(1)
    chosen = uniform_W if uniform_W.any() else np.array([preference == wanted[0] for preference in wanted])
    shares_WM = (weights_WM / weights_WM.sum(1, keepdims=True))[chosen]
    utility_W = np.array([row["utility"] for row in rows], dtype=np.float64)[chosen]
    with _figure(1) as (figure, canvas):
        axes = figure.add_subplot()
        if shares_WM.shape[1] == 3:
            x_W, y_W = (shares_WM @ CORNERS).T
            shown = axes.scatter(x_W, y_W, c=utility_W, s=60, cmap="viridis")
            axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="#444444", linewidth=0.8)
            for name, (x, y), (dx, dy) in zip(names, CORNERS, ((0, -0.07), (0, -0.07), (0, 0.03)), strict=False):
                axes.text(x + dx, y + dy, name, ha="center", fontsize=8)
            axes.set_aspect("equal")
            axes.axis("off")
            figure.colorbar(shown, ax=axes, shrink=0.7, label="utility on select")
        else:
            axes.plot(np.maximum.accumulate(utility_W), drawstyle="steps-post")
            axes.scatter(np.arange(len(utility_W)), utility_W, s=14)
            axes.set_xlabel("blends asked about")
            axes.set_ylabel("utility on select (up is better)")
        whose = "uniform preference" if uniform_W.any() else f"preference {wanted[0]}"
        axes.set_title(f"search, {whose}", fontsize=10, pad=14)
    return canvas.getvalue()


def _scores(point: Record, names: Sequence[str], decoding: str) -> bytes:
    """Bars by objective for each set of scorers, at the uniform preference."""
    sets = [name for name in SETS if point.get(name)]
    with _figure(1, wide=max(1.0, 0.45 * len(names))) as (figure, canvas):
        axes = figure.add_subplot()
        width = 0.8 / len(sets)
        for i, name in enumerate(sets):
            heights = [np.nan if (score := point[name].get(o)) is None else score for o in names]
            label, colour = SETS[name]
            axes.bar(
                np.arange(len(names)) + (i - (len(sets) - 1) / 2) * width, heights, width, label=label, color=colour
            )
        axes.set_xticks(np.arange(len(names)), names, rotation=20 if len(names) > 3 else 0, fontsize=8)
        axes.set_ylabel("mean score (up is better)")
        axes.set_title(f"uniform preference, {decoding} decoding", fontsize=10)
        axes.legend(fontsize=8)
    return canvas.getvalue()


@contextmanager
def _figure(panels: int, wide: float = 1.0) -> Iterator[tuple[Figure, BytesIO]]:
    """A figure, and the buffer that holds its PNG once the block has ended."""
    figure, buffer = Figure(figsize=(panels * INCHES * wide + 0.8, INCHES), layout="constrained"), BytesIO()
    yield figure, buffer
    FigureCanvasAgg(figure).print_png(buffer)
