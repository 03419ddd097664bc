"""Training curves: the score on the select split against the prompts that a learner has spent.

Each method has a panel, with the other methods in grey behind it: a dozen learners in one panel cannot be read. Methods
that have the same experts share a panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_bench.core.words import counted
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.curves import Curve, curves_by_row, over_seeds, shared_sets
from emorl_bench.report.palette import PALE, Look
from emorl_bench.report.style import BETTER, figure, grid_columns, heading, panels

DASHES = ("-", "--", ":", "-.")  # learners of one method share its colour
NAMED = 6  # learners of a panel that have a legend
SHOWN = 2  # names in the second line of a title


def plot_curves(comparison: Comparison, looks: dict[str, Look], path: Path) -> bool:
    """Lines are means, and bands the range over seeds. Returns False where no run recorded a curve."""
    rows = curves_by_row(comparison)
    sets = shared_sets(rows, [name for name, look in looks.items() if not look.pale])
    if not sets:
        return False
    lines = {name: [over_seeds(curves) for curves in rows[name].values()] for name in shared_sets(rows, list(looks))}
    columns = grid_columns(len(sets))
    with figure(path, 0.6 + 3.9 * columns, 1.0 + 3.1 * -(-len(sets) // columns)) as drawing:
        for axes, name in zip(panels(drawing, len(sets), columns, sharex=True, sharey=True), sets, strict=True):
            for other in lines:
                if other not in sets[name]:
                    for x_X, score_NX in lines[other]:
                        axes.plot(x_X, score_NX.mean(0), color=PALE, linewidth=1.0, zorder=1)
            experts = set(rows[name]) <= set(comparison.objectives) and len(comparison.objectives) > 1
            _draw_learners(axes, rows[name], looks[name], named=experts or len(rows[name]) > 1)
            seeds = max(len(curves) for curves in rows[name].values())
            axes.set_title(f"{name}  ({counted(seeds, 'seed')}){_others(sets[name][1:])}")
        heading(drawing, f"{comparison.title}: training curves, greedy decoding")
        drawing.supxlabel("data points (prompts of this learner)", fontsize=10.5)
        drawing.supylabel(f"mean reward on select\n(experts: their own objective) {BETTER}", fontsize=10.5)
    return True


def _others(same: Sequence[str]) -> str:
    """A second line of the title with the methods that have the same curves."""
    more = f" and {len(same) - SHOWN} more" if len(same) > SHOWN else ""
    return f"\nand {', '.join(same[:SHOWN])}{more}" if same else ""


def _draw_learners(axes: Any, learners: Mapping[str, Sequence[Curve]], look: Look, *, named: bool) -> None:
    for i, (learner, curves) in enumerate(sorted(learners.items())):
        x_X, score_NX = over_seeds(curves)
        axes.fill_between(x_X, score_NX.min(0), score_NX.max(0), color=look.colour, alpha=0.15, linewidth=0, zorder=2)
        axes.plot(x_X, score_NX.mean(0), DASHES[i % len(DASHES)], color=look.colour, zorder=3, label=learner)
    if named and len(learners) <= NAMED:
        axes.legend(loc="lower right", fontsize=9, handlelength=2.4)
