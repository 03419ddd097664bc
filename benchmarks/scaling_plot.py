"""Curves of seconds against size, both on logarithmic axes, with the range over the repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Timing
from emorl_bench.report.palette import COLOURS
from emorl_bench.report.style import figure, panels


@dataclass(frozen=True)
class Curve:
    """One panel.

    Attributes:
        title: what is measured.
        axis: the name of the size.
        points: our times by size.
        naive: seconds of the published procedure by size, if there are any.
    """

    title: str
    axis: str
    points: Mapping[int, Timing]
    naive: Mapping[int, float] = field(default_factory=dict)


def plot_curves(path: Path, title: str, curves: Sequence[Curve]) -> None:
    """Draw one panel for each curve into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with figure(path, width=10.0, height=7.2) as drawing:
        drawing.suptitle(title)
        for axes, curve in zip(panels(drawing, len(curves), columns=2), curves, strict=True):
            _draw(axes, curve)


def _draw(axes: Any, curve: Curve) -> None:
    sizes = list(curve.points)
    medians = [curve.points[n].median for n in sizes]
    axes.plot(sizes, medians, marker="o", color=COLOURS[0], label="ours")
    low, high = ([edge(curve.points[n].raw) for n in sizes] for edge in (min, max))
    axes.fill_between(sizes, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    if curve.naive:
        axes.plot(list(curve.naive), list(curve.naive.values()), "s--", color=COLOURS[1], label="published procedure")
    else:
        straight = [medians[0] * n / sizes[0] for n in sizes]
        axes.plot(sizes, straight, ":", color="#5B5B5B", label="proportional")
    axes.set(title=curve.title, xlabel=curve.axis, ylabel="seconds", xscale="log", yscale="log")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.legend()
