"""Utility against cost: one curve for each method, over the shares of its budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import ceiling
from emorl_bench.report.ladder import ladders, title
from emorl_bench.report.palette import Look
from emorl_bench.report.style import BETTER, INK, figure, legend


def plot_ladder(comparison: Comparison, decoding: str, looks: dict[str, Look], path: Path) -> bool:
    """Lines are means, and bands the range over seeds. Returns False where no run was graded on the way."""
    methods = ladders(comparison, decoding)
    if not methods:
        return False
    with figure(path, 7.6, 5.2) as drawing:
        axes = drawing.subplots()
        for method, runs in methods.items():
            shares = sorted(set.intersection(*({rung.share for rung in run} for run in runs)))
            spent_NX = np.array([[rung.data_points for rung in run if rung.share in shares] for run in runs])
            utility_NX = np.array([[rung.utility for rung in run if rung.share in shares] for run in runs])
            look, spent_X = looks[method], spent_NX.mean(0)
            if look.pale:
                axes.plot(spent_X, utility_NX.mean(0), color=look.colour, linewidth=1.0, zorder=1)
                continue
            axes.fill_between(spent_X, utility_NX.min(0), utility_NX.max(0), color=look.colour, alpha=0.13, linewidth=0)
            line = {"color": look.colour, "marker": look.marker, "markersize": 6, "markeredgecolor": "white"}
            axes.plot(spent_X, utility_NX.mean(0), label=method, **line)
        if (best := ceiling(comparison)) is not None:
            axes.axhline(best["mean_utility"], color=INK, linestyle="--", linewidth=1.2, label="ceiling")
        axes.set_xlabel("data points (prompts of the whole method)")
        axes.set_ylabel(f"{title(comparison)}, mean over preferences {BETTER}")
        axes.set_title(f"{comparison.title}: what a budget buys, {decoding} decoding")
        legend(drawing, *axes.get_legend_handles_labels())
    return True
