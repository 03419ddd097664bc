"""Performance profiles: for every threshold, the share of a method's runs that score above it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emorl_bench.indicators.aggregates import performance_profile
from emorl_bench.report.aggregate import scores
from emorl_bench.report.columns import headline
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.palette import Look
from emorl_bench.report.style import BETTER, figure, legend

POINTS = 101
FEWEST_RUNS = 5  # fewer runs give steps that no eye should compare


def plot_profile(comparisons: Sequence[Comparison], decoding: str, looks: dict[str, Look], path: Path) -> bool:
    """Lines are shares of runs, averaged over tasks, bands pointwise 95 % bootstraps over the seeds of each task.

    Returns False where no row has `FEWEST_RUNS` runs.
    """
    rows = {row.method: row for row in scores(comparisons, decoding)}
    if not rows or max(sum(map(len, row.by_task)) for row in rows.values()) < FEWEST_RUNS:
        return False
    every = np.concatenate([values for row in rows.values() for values in row.arrays])
    thresholds_X = np.linspace(every.min() - 1e-9, every.max(), POINTS)
    several = len(comparisons) > 1
    with figure(path, 7.6, 5.0) as drawing:
        axes = drawing.subplots()
        for name in (name for name in looks if name in rows):
            profile = performance_profile(rows[name].arrays, thresholds_X, resamples=1000)
            look = looks[name]
            place = {"where": "post", "color": look.colour, "linewidth": 1.0 if look.pale else 2.0}
            label = None if look.pale else name
            axes.step(thresholds_X, profile.share_X, label=label, zorder=1 if look.pale else 3, **place)
            if not look.pale:
                band = {"step": "post", "color": look.colour, "alpha": 0.1, "linewidth": 0}
                axes.fill_between(thresholds_X, profile.low_X, profile.high_X, **band)
        measure = "normalised gold" if several else headline(comparisons[0]).title
        title = f"{len(comparisons)} tasks" if several else comparisons[0].title
        axes.set(xlabel=f"τ, {measure}", ylabel=f"share of runs above τ {BETTER}", ylim=(-0.02, 1.02))
        axes.set_title(f"{title}: performance profiles, {decoding} decoding")
        legend(drawing, *axes.get_legend_handles_labels())
    return True
