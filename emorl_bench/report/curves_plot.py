"""Training curves: mean reward on the select split against the prompts that a learner has spent.

Each method has a panel, with the other methods in grey behind it: a dozen learners in one panel cannot be read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.read import Run
from emorl_bench.report.style import PALE, Look, figure, grid_columns, panels

Curve = Mapping[float, float]  # data points -> mean reward
Floats = NDArray[np.float64]

DASHES = ("-", "--", ":", "-.")  # learners of one method share its colour


def learning_curves(run: Run) -> dict[str, Curve]:
    """Learner -> its curve over the prompts that it has spent itself, its validations included.

    Older records name a learner in another way, and repeat a step where a run was resumed; the last one counts.
    """
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for record in run.lines("metrics.jsonl"):
        for key, value in record.items():
            learner, spent = _learner(key, record)
            if learner is not None and spent is not None:
                curves[learner][float(spent)] = float(value)
    return dict(curves)


def _learner(key: str, record: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """The learner whose mean reward this is, and what it had spent; None for any other number."""
    parts = key.split("/")
    if parts[0] == "learner" and parts[2:] == ["eval", "mean_reward"]:
        return parts[1], record.get(f"learner/{parts[1]}/data_points")
    if parts[0] == "eval" and parts[-1] == "mean_reward" and len(parts) > 2:
        return "/".join(parts[1:-1]), record.get("data_points")
    return None, None


def over_seeds(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Data points (X,) and rewards (N, X).

    Between two validations, and after its last one, a seed keeps its last value.
    """
    x_X = np.array(sorted({x for curve in curves for x in curve}))
    start = max(min(curve) for curve in curves)  # before this point some seed has no validation yet
    x_X = x_X[x_X >= start]
    rows = []
    for curve in curves:
        known = np.array(sorted(curve))
        values = np.array([curve[x] for x in known])
        rows.append(values[np.searchsorted(known, x_X, side="right") - 1])
    return x_X, np.array(rows)


def plot_curves(comparison: Comparison, looks: dict[str, Look], path: Path) -> bool:
    """Lines are means, and bands the range over seeds. Returns False where no run recorded a curve."""
    by_method: dict[str, dict[str, list[Curve]]] = {}
    for run in comparison.runs:
        for learner, curve in learning_curves(run).items():
            by_method.setdefault(run.method, {}).setdefault(learner, []).append(curve)
    if not by_method:
        return False
    methods = [name for name in looks if name in by_method]
    columns = grid_columns(len(methods))
    with figure(path, 0.6 + 3.9 * columns, 0.7 + 3.1 * -(-len(methods) // columns)) as drawing:
        for axes, name in zip(panels(drawing, len(methods), columns, sharex=True, sharey=True), methods, strict=True):
            for other in methods:
                if other != name:
                    for curves in by_method[other].values():
                        x_X, reward_NX = over_seeds(curves)
                        axes.plot(x_X, reward_NX.mean(0), color=PALE, linewidth=1.0, zorder=1)
            _draw_learners(axes, name, by_method[name], looks[name])
        drawing.supxlabel("data points (prompts of this learner)", fontsize=10.5)
        drawing.supylabel("mean reward on select", fontsize=10.5)
    return True


def _draw_learners(axes: Any, method: str, learners: Mapping[str, Sequence[Curve]], look: Look) -> None:
    for i, (learner, curves) in enumerate(sorted(learners.items())):
        x_X, reward_NX = over_seeds(curves)
        axes.fill_between(x_X, reward_NX.min(0), reward_NX.max(0), color=look.colour, alpha=0.15, linewidth=0, zorder=2)
        axes.plot(x_X, reward_NX.mean(0), DASHES[i % len(DASHES)], color=look.colour, zorder=3, label=learner)
    seeds = max(len(curves) for curves in learners.values())
    axes.set_title(f"{method}  ({seeds} seed{'s' * (seeds > 1)})")
    if len(learners) > 1:
        axes.legend(loc="lower right", fontsize=9, handlelength=2.4)
