"""Regret against evaluations: one panel for each surface and number of objectives, one line for each strategy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emorl_bench.report.palette import looks
from emorl_bench.report.style import figure, panels

FLOOR = 1e-4  # lower end of the logarithmic axis


def plot_regret(path: Path, curves: Mapping[str, Mapping[str, NDArray[np.float64]]], average: str) -> None:
    """Draw the curves into a file.

    Args:
        path: the file.
        curves: panel -> strategy -> average regret after n evaluations.
        average: the name of the average.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for panel in curves.values() for name in panel))
    look = looks(names)
    columns = 2 if len(curves) == 4 else min(3, len(curves))
    rows = -(-len(curves) // columns)
    with figure(path, width=4.2 * columns, height=3.2 * rows + 0.6) as drawing:
        handles = {}
        for axes, (title, panel) in zip(panels(drawing, len(curves), columns), curves.items(), strict=True):
            for name, average_N in panel.items():
                steps = np.arange(1, len(average_N) + 1)
                style = {"color": look[name].colour, "marker": look[name].marker, "markevery": 8, "markersize": 4}
                (handles[name],) = axes.step(steps, np.maximum(average_N, FLOOR), where="post", linewidth=1.5, **style)
            axes.set_title(title, fontsize=9)
            axes.set(yscale="log", xlabel="evaluations", ylabel=f"regret ({average})")
        ordered = sorted(handles, key=names.index)
        drawing.legend([handles[n] for n in ordered], ordered, loc="outside lower center", ncols=len(ordered))
