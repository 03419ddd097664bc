"""The search surface: the utility of every blend that a weight search has paid for.

Three experts are drawn on the simplex, two as a line over the share of the first one. For more experts, the best
utility so far is drawn against evaluations. A blend under argmax does not change when all its weights are scaled, so
weights are divided by their sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.tri import LinearTriInterpolator, Triangulation, UniformTriRefiner
from numpy.typing import NDArray

from emorl_bench.core.words import counted
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.palette import Look
from emorl_bench.report.read import Run
from emorl_bench.report.style import BETTER, INK, SURFACE, figure, grid_columns, heading, panels

Floats = NDArray[np.float64]

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # where weight 1 on each expert is drawn


@dataclass(frozen=True)
class Search:
    """The distinct blends that one run's search evaluated, in order."""

    shares_WM: Floats
    utility_W: Floats


def read_search(run: Run) -> Search | None:
    """The search for the uniform preference, or else the first one of the run."""
    records = [r for r in run.lines("search.jsonl") if _is_sound(r, len(run.objectives)) and sum(r["weights"]) > 0]
    if not records:
        return None
    uniform = [r for r in records if np.allclose(r["preference"], 1 / len(run.objectives), atol=1e-6)]
    chosen = uniform or [r for r in records if r["preference"] == records[0]["preference"]]
    weights_WM = np.array([r["weights"] for r in chosen], dtype=np.float64)
    shares_WM = weights_WM / weights_WM.sum(axis=1, keepdims=True)
    # A search may ask for a direction several times. It pays once, and the result is the same.
    _, first = np.unique(shares_WM.round(6), axis=0, return_index=True)
    first.sort()
    return Search(shares_WM[first], np.array([chosen[i]["utility"] for i in first], dtype=np.float64))


def _is_sound(row: Mapping[str, Any], objectives: int) -> bool:
    """Whether a row has what is drawn; a damaged one is left out."""
    listed = [row.get(key) for key in ("weights", "preference")]
    numbers = [*(value for values in listed if isinstance(values, list) for value in values), row.get("utility")]
    whole = all(isinstance(values, list) for values in listed) and len(row["preference"]) == objectives
    return whole and all(isinstance(value, int | float) for value in numbers)


def plot_search(comparison: Comparison, looks: dict[str, Look], path: Path) -> bool:
    """One panel for each method that searched. Returns False where no method did."""
    by_method: dict[str, list[Search]] = defaultdict(list)
    for run in comparison.runs:
        if (search := read_search(run)) is not None:
            by_method[run.method].append(search)
    methods = [name for name, look in looks.items() if name in by_method and not look.pale]
    if not methods:
        return False
    columns = grid_columns(len(methods))
    with figure(path, 0.5 + 4.6 * columns, 0.8 + 4.0 * -(-len(methods) // columns)) as drawing:
        for axes, name in zip(panels(drawing, len(methods), columns), methods, strict=True):
            searches, seeds = by_method[name], len(by_method[name])
            experts = searches[0].shares_WM.shape[1]
            axes.set_title(f"{name}  ({counted(seeds, 'seed')})", pad=22 if experts == 3 else None)
            if experts == 3:
                _draw_simplex(drawing, axes, searches, comparison.objectives)
            elif experts == 2:
                _draw_line(axes, searches, looks[name], comparison.objectives[0])
            else:
                _draw_progress(axes, searches, looks[name])
        heading(drawing, f"{comparison.title}: search surfaces, greedy decoding (brighter is better)")
    return True


def _draw_simplex(drawing: Any, axes: Any, searches: Sequence[Search], experts: Sequence[str]) -> None:
    fine = UniformTriRefiner(Triangulation(*CORNERS.T, [[0, 1, 2]])).refine_triangulation(subdiv=6)
    centre_2 = CORNERS.mean(axis=0)
    inside_X2 = centre_2 + (np.column_stack([fine.x, fine.y]) - centre_2) * (
        1 - 1e-6
    )  # otherwise rounding would leave gaps at the boundary
    surfaces = []
    for search in searches:
        points_W2 = search.shares_WM @ CORNERS
        if np.linalg.matrix_rank(points_W2 - points_W2[0], tol=1e-6) == 2:  # on one line there is no surface
            measured = Triangulation(*points_W2.T)
            surfaces.append(LinearTriInterpolator(measured, search.utility_W)(*inside_X2.T).filled(np.nan))
    if surfaces:
        _shade(drawing, axes, fine, np.array(surfaces))
    for search in searches:
        axes.scatter(
            *(search.shares_WM @ CORNERS).T, s=13, color="white", edgecolor=INK, linewidth=0.5, zorder=3, clip_on=False
        )
        best = search.shares_WM[search.utility_W.argmax()] @ CORNERS
        axes.scatter(
            *best, s=150, marker="*", color="#D55E00", edgecolor="white", linewidth=0.9, zorder=4, clip_on=False
        )
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color=INK, linewidth=0.9)
    for (x, y), name, (dx, dy) in zip(CORNERS, experts, ((0, -16), (0, -16), (0, 7)), strict=True):
        axes.annotate(name, (x, y), xytext=(dx, dy), textcoords="offset points", ha="center", fontsize=10)
    axes.set_aspect("equal")
    axes.axis("off")


def _shade(drawing: Any, axes: Any, fine: Any, surfaces_NX: Floats) -> None:
    """The mean over seeds as filled contours, wherever a seed has values around a point."""
    seen_X = np.asarray(np.isfinite(surfaces_NX).any(axis=0))
    height_X = np.zeros(surfaces_NX.shape[1])
    height_X[seen_X] = np.nanmean(surfaces_NX[:, seen_X], axis=0)
    fine.set_mask(~seen_X[fine.triangles].all(axis=1))
    levels = np.linspace(height_X[seen_X].min(), height_X[seen_X].max() + 1e-9, 15)
    shade = axes.tricontourf(fine, height_X, levels=levels, cmap=SURFACE)
    bar = drawing.colorbar(shade, ax=axes, shrink=0.72, format="%.2f", ticks=levels[::7])
    bar.outline.set_visible(False)
    bar.set_label("utility on select, mean over seeds")


def _draw_line(axes: Any, searches: Sequence[Search], look: Look, expert: str) -> None:
    for search in searches:
        order = search.shares_WM[:, 0].argsort()
        axes.plot(
            search.shares_WM[order, 0],
            search.utility_W[order],
            color=look.colour,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            alpha=0.8,
        )
    axes.set_xlabel(f"weight of {expert}")
    axes.set_ylabel(f"utility on select {BETTER}")


def _draw_progress(axes: Any, searches: Sequence[Search], look: Look) -> None:
    for search in searches:
        best_W = np.maximum.accumulate(search.utility_W)
        axes.step(np.arange(1, len(best_W) + 1), best_W, where="post", color=look.colour, linewidth=1.4, alpha=0.8)
    axes.set_xlabel("evaluations")
    axes.set_ylabel(f"best utility so far on select {BETTER}")
