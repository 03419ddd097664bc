"""Pareto plots: for each pair of objectives, what a method reaches at different preferences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import ceiling, has_gold
from emorl_bench.report.palette import Look
from emorl_bench.report.read import Run
from emorl_bench.report.style import BETTER, INK, figure, grid_columns, heading, legend, panels
from emorl_bench.report.tables import is_single_point

Floats = NDArray[np.float64]


def front_of_pair(points_W2: Floats) -> Floats:
    """The points that no other point dominates in these two objectives, from left to right."""
    front = np.asarray(moocore.filter_dominated(np.unique(points_W2, axis=0), maximise=True))
    return front[np.argsort(front[:, 0])]


def plot_fronts(comparison: Comparison, decoding: str, looks: dict[str, Look], path: Path) -> bool:
    """Plot gold scores with the best possible answers where there is gold, else the scorers' scores.

    Returns False with a single objective.

    Markers are means over seeds, faint where another preference of the method is better in the panel. Dots are seeds.
    """
    pairs = list(combinations(range(len(comparison.objectives)), 2))
    if not pairs:
        return False
    gold, best = has_gold(comparison), ceiling(comparison)
    methods = comparison.methods(decoding)
    best_WK = None if best is None else np.array(best["objectives"], dtype=np.float64)
    columns = grid_columns(len(pairs))
    with figure(path, 0.4 + 4.1 * columns, 1.1 + 3.7 * -(-len(pairs) // columns)) as drawing:
        for axes, pair in zip(panels(drawing, len(pairs), columns), pairs, strict=True):
            for name in (name for name in looks if name in methods):
                _draw_method(axes, methods[name], decoding, list(pair), looks[name], "gold" if gold else "objectives")
            if best_WK is not None:
                front_F2 = front_of_pair(best_WK[:, list(pair)])
                axes.plot(*front_F2.T, color=INK, linestyle="--", marker=".", linewidth=1.2, zorder=1)
            axes.set_xlabel(f"{'gold ' * gold}{comparison.objectives[pair[0]]} {BETTER}")
            axes.set_ylabel(f"{'gold ' * gold}{comparison.objectives[pair[1]]} {BETTER}")
        heading(drawing, f"{comparison.title}: fronts, {decoding} decoding")
        for name, look in looks.items():
            if name in methods and not look.pale:
                line = "none" if is_single_point(methods[name]) else "-"
                axes.plot([], [], linestyle=line, color=look.colour, marker=look.marker, markersize=7, label=name)
        if best_WK is not None:
            axes.plot([], [], color=INK, linestyle="--", marker=".", label="ceiling")
        handles, texts = axes.get_legend_handles_labels()
        legend(drawing, handles, texts)
    return True


def _draw_method(axes: Any, runs: Sequence[Run], decoding: str, pair: list[int], look: Look, scores: str) -> None:
    points_NW2 = np.array([run.points_WK(decoding, scores) for run in runs])[:, :, pair]
    if look.pale:
        axes.scatter(*points_NW2.mean(axis=0).T, s=14, color=look.colour, linewidth=0, zorder=1)
        return
    style = {"color": look.colour, "marker": look.marker, "edgecolor": "white", "linewidth": 0.8}
    if is_single_point(runs):  # one policy gives one point, up to sampling, which is drawn once and above the fronts
        points_NW2 = points_NW2.mean(axis=1, keepdims=True)
        axes.scatter(*points_NW2.mean(axis=0).T, s=95, zorder=6, **style)
    else:
        mean_W2 = points_NW2.mean(axis=0)
        whole_W2 = mean_W2[
            ~np.isnan(mean_W2).any(axis=1)
        ]  # a seed in which an objective applied to nothing has no point
        front_F2 = front_of_pair(whole_W2) if len(whole_W2) else whole_W2
        axes.scatter(*mean_W2.T, s=20, alpha=0.45, zorder=3, **style)
        axes.plot(*front_F2.T, color=look.colour, linewidth=1.5, alpha=0.85, zorder=4)
        axes.scatter(*front_F2.T, s=52, zorder=5, **style)
    axes.scatter(*points_NW2.reshape(-1, 2).T, s=8, color=look.colour, alpha=0.22, linewidth=0, zorder=2)
