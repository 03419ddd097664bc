"""Methods over several tasks: normalised gold of all runs, its interquartile mean, and who beats the reference.

Gold is normalised between the base model (0) and the best legal answers (1), so that tasks can be averaged. One task
alone needs no scale, and keeps the headline as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emorl_bench.indicators.aggregates import iqm_interval, probability_of_improvement
from emorl_bench.indicators.intervals import Interval
from emorl_bench.report.columns import headline, share
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import is_reward, normalised, over_tasks
from emorl_bench.report.read import Floats, Labels
from emorl_bench.report.reading import Read
from emorl_bench.report.reference import reference_row
from emorl_bench.report.tables import Table, chooses
from emorl_bench.report.verdicts import Evidence, Verdict, decide

Pair = tuple[int, Labels]


@dataclass(frozen=True)
class Scores:
    """One row: its value for each seed, a dictionary for each task."""

    method: str
    by_task: tuple[dict[Pair, float], ...]

    @property
    def arrays(self) -> list[Floats]:
        """One array for each task."""
        return [np.array(list(found.values())) for found in self.by_task]


def together(comparisons: Sequence[Comparison], decoding: str) -> list[Comparison]:
    """The comparisons that have normalised gold, and so one scale."""
    return [c for c in comparisons if decoding in c.decodings() and over_tasks([c], decoding)]


def scores(comparisons: Sequence[Comparison], decoding: str) -> list[Scores]:
    """The rows that have runs in every comparison, by name.

    A row that chooses its answers with the scorers that judge it is left out.
    """
    found: list[dict[str, dict[Pair, float]]] = []
    for comparison in comparisons:
        read, by_scorers = _measure(comparison, decoding, several=len(comparisons) > 1)
        values = {
            method: {run.pair: value for run in runs if (value := read(run, decoding)) is not None}
            for method, runs in comparison.methods(decoding).items()
            if not (by_scorers and chooses(runs))
        }
        found.append({method: by_seed for method, by_seed in values.items() if by_seed})
    shared = set.intersection(*(set(values) for values in found)) if found else set()
    return [Scores(method, tuple(values[method] for values in found)) for method in sorted(shared)]


def _measure(comparison: Comparison, decoding: str, several: bool) -> tuple[Read, bool]:
    if several:
        return normalised(comparison, decoding), is_reward(comparison)
    column = headline(comparison)
    return column.read, column.by_scorers


def shared_reference(comparisons: Sequence[Comparison], wanted: str | None) -> str | None:
    """The reference, where all comparisons have the same one."""
    names = {reference_row(comparison, wanted) for comparison in comparisons}
    return names.pop() if len(names) == 1 else None


def verdicts_over_tasks(comparisons: Sequence[Comparison], decoding: str, wanted: str | None) -> list[Verdict]:
    """What can be claimed over all tasks together, by normalised gold; methods that were run in all of them."""
    rows = {row.method: row for row in scores(comparisons, decoding)}
    reference = rows.pop(shared_reference(comparisons, wanted) or "", None)
    if reference is None:
        return []
    evidence = []
    for row in rows.values():
        differences_T = [
            np.array([ours[pair] - theirs[pair] for pair in ours if pair in theirs])
            for ours, theirs in zip(row.by_task, reference.by_task, strict=True)
        ]
        if all(differences.size for differences in differences_T):
            evidence.append(Evidence(row.method, tuple(differences_T)))
    return decide(evidence)


def aggregate_table(comparisons: Sequence[Comparison], decoding: str, wanted: str | None) -> Table | None:
    """Interquartile mean and probability of improvement of every row, the best one first."""
    rows = scores(comparisons, decoding)
    reference = next((row for row in rows if row.method == shared_reference(comparisons, wanted)), None)
    found: list[tuple[Interval, tuple[str, ...]]] = []
    for row in rows:
        middle = iqm_interval(row.arrays)
        better = "–"
        if reference is not None and row is not reference:
            better = share(probability_of_improvement(row.arrays, reference.arrays))
        mean = f"{np.mean([values.mean() for values in row.arrays]):.3f}"
        bounds = f" ({middle.low:.3f} to {middle.high:.3f})" if min(map(len, row.arrays)) > 2 else ""
        found.append((middle, (row.method, str(middle.n), mean, f"{middle.mean:.3f}{bounds}", better)))
    found.sort(key=lambda pair: -pair[0].mean)
    header = ("method", "runs", "mean", "IQM", f"P(improvement) over {reference.method if reference else '–'}")
    return Table(header, tuple(cells for _, cells in found)) if found else None
