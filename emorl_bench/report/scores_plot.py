"""The main figure: every method with each seed, by gold and by both sets of scorers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_bench.report.columns import FEW, Column, gold_columns, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import ceiling, has_gold
from emorl_bench.report.palette import Look
from emorl_bench.report.read import Run
from emorl_bench.report.style import BETTER, INK, figure, legend
from emorl_bench.report.tables import chooses, label, ranked

CLOSER = 20  # rows beyond which they stand closer


@dataclass(frozen=True)
class Mark:
    """One measure of every method: its place in a method's row, and its look."""

    column: Column
    text: str
    """The name in the legend."""
    offset: float
    filled: bool
    shape: str = "o"


def marks(comparison: Comparison, decoding: str) -> list[Mark]:
    """Gold, scorers and held-out scorers. Without gold the scorers come first."""
    if has_gold(comparison):
        columns = {column.key: column for column in gold_columns(comparison, decoding)}
        return [
            Mark(columns["gold_deployed_utility"], "gold", 0.2, True),
            Mark(columns["deployed_utility"], "scorers trained against", -0.02, False),
            Mark(columns["held_out_deployed_utility"], "held-out scorers", -0.24, False, "D"),
        ]
    columns = {column.key: column for column in quality_columns(comparison)}
    return [
        Mark(columns["mean_reward"], "scorers trained against", 0.13, True),
        Mark(columns["held_out_mean_reward"], "held-out scorers", -0.17, False),
    ]


def plot_scores(comparison: Comparison, decoding: str, looks: dict[str, Look], path: Path) -> bool:
    """Bars are 95 % t intervals over seeds. A method that chooses with the scorers has no mark for their scores."""
    drawn, methods, best = marks(comparison, decoding), ranked(comparison, decoding)[::-1], ceiling(comparison)
    line = 0.2 if len(methods) <= CLOSER else 0.12  # inches
    with figure(path, 7.6, 1.3 + line * (len(drawn) + 0.6) * len(methods)) as drawing:
        axes = drawing.subplots()
        for row, (name, runs) in enumerate(methods):
            for mark in drawn:
                if not (mark.column.by_scorers and chooses(runs)):
                    _draw(axes, row, mark, runs, decoding, looks[name].colour)
        axes.set_yticks(range(len(methods)), [label(name, runs) for name, runs in methods])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        what = "utility, mean over the preferences" if len(drawn) > 2 else "mean reward at the uniform preference"
        axes.set_xlabel(f"{what} {BETTER}")
        axes.set_title(f"{comparison.title}, {decoding} decoding")
        axes.margins(y=0.5 / max(len(methods), 1))
        for mark in drawn:
            face = "#777777" if mark.filled else "white"
            style = {"color": face, "edgecolor": "#777777", "linewidth": 1.8, "marker": mark.shape}
            axes.scatter([], [], s=62 if mark.shape == "o" else 40, label=mark.text, **style)
        if best is not None:
            axes.axvline(best["mean_utility"], color=INK, linestyle="--", linewidth=1.2, label="ceiling")
        legend(drawing, *axes.get_legend_handles_labels())
    return True


def _draw(axes: Any, row: int, mark: Mark, runs: Sequence[Run], decoding: str, colour: str) -> None:
    interval = mark.column.over_seeds(runs, decoding)
    if interval is None:
        return
    y, face = row + mark.offset, colour if mark.filled else "white"
    values = [value for run in runs if (value := mark.column.read(run, decoding)) is not None]
    if interval.n >= FEW:
        axes.plot([interval.low, interval.high], [y] * 2, color=colour, linewidth=2.2, alpha=0.4)
    axes.scatter(values, [y] * len(values), s=11, color=colour, alpha=0.55, linewidth=0)
    size = 62 if mark.shape == "o" else 40
    axes.scatter(interval.mean, y, s=size, color=face, edgecolor=colour, linewidth=1.8, marker=mark.shape, zorder=3)
