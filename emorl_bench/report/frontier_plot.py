"""Reward against the square root of KL: one curve for each method, over its KL coefficients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emorl_bench.report.columns import FEW
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.frontier import Point, frontiers, judged_by, measured_on, measures, root_kl
from emorl_bench.report.palette import Look, looks
from emorl_bench.report.style import BETTER, LESS, figure, legend

MOST = 12  # curves in colour


def plot_frontier(comparison: Comparison, path: Path) -> bool:
    """Large markers are means over seeds, bars 95 % t intervals, dots seeds.

    Returns False where no method has two points.
    """
    curves = frontiers(comparison)
    if not curves:
        return False
    style = looks(list(curves)[:MOST], list(curves)[MOST:])
    with figure(path, 7.6, 5.0) as drawing:
        axes = drawing.subplots()
        for family, points in curves.items():
            _draw(axes, comparison, family, points, style[family])
        axes.set_xlabel(f"√KL to the base (KL in nats per sequence) {LESS}")
        axes.set_ylabel(f"{judged_by(comparison).title}, {measured_on(comparison)} {BETTER}")
        axes.set_title(f"{comparison.title}: reward against KL, {measured_on(comparison)} decoding")
        legend(drawing, *axes.get_legend_handles_labels())
    return True


def _draw(axes: Any, comparison: Comparison, family: str, points: list[Point], look: Look) -> None:
    decoding, kl, reward = measured_on(comparison), measures(comparison)["kl"], judged_by(comparison)
    means = []
    for point in points:
        x, y = kl.over_seeds(point.runs, decoding), reward.over_seeds(point.runs, decoding)
        seeds = [(kl.read(run, decoding), reward.read(run, decoding)) for run in point.runs]
        whole = [(root_kl(a), b) for a, b in seeds if a is not None and b is not None]
        if x is None or y is None or not whole:
            continue
        means.append((root_kl(x.mean), y.mean))
        if y.n >= FEW:
            axes.plot([means[-1][0]] * 2, [y.low, y.high], color=look.colour, linewidth=1.6, alpha=0.45, zorder=2)
        if x.n >= FEW:
            across = [root_kl(x.low), root_kl(x.high)]
            axes.plot(across, [y.mean] * 2, color=look.colour, linewidth=1.6, alpha=0.45, zorder=2)
        axes.scatter(*zip(*whole, strict=True), s=12, color=look.colour, alpha=0.5, linewidth=0, zorder=3)
        label = f"{point.kl_coefficient:g}"
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}  # legible on a line
        place = {"xytext": (7, -12), "textcoords": "offset points"}
        if not look.pale:
            axes.annotate(label, means[-1], **place, fontsize=9, color=look.colour, bbox=paper, zorder=5)
    xs, ys = zip(*means, strict=True) if means else ((), ())
    line = {"color": look.colour, "marker": look.marker, "markersize": 7, "markeredgecolor": "white"}
    axes.plot(xs, ys, label=None if look.pale else family, **line)
