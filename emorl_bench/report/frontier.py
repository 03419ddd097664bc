"""Reward against KL to the base model, over the KL coefficient: what a method gains for how far it moves.

At one coefficient, a method may simply be further along the curve of another method. So a claim such as CORY's
(2410.06101: the reward of PPO at less KL) is one about curves. The points of a method are its runs that differ only in
``update.kl_coefficient``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from emorl_bench.report.columns import Column, behaviour_columns, gold_quality_columns, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.rows import row_name
from emorl_bench.report.tables import Table

KL = "KL"  # the coefficient in a row's name
MEASURES = ("kl", "mean_reward", "held_out_mean_reward", "gold_mean_reward")


@dataclass(frozen=True)
class Point:
    """One method at one KL coefficient, with all its seeds."""

    kl_coefficient: float
    runs: tuple[Run, ...]


def frontiers(comparison: Comparison) -> dict[str, list[Point]]:
    """Method -> its points, for methods that were run with two or more KL coefficients; the coefficients rise."""
    found: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(comparison.runs, key=lambda run: run.seed):
        if run.kl_coefficient is not None and measured_on(comparison) in run.decoding:
            found[curve_name(run)][run.kl_coefficient].append(run)
    return {
        family: [Point(coefficient, tuple(runs)) for coefficient, runs in sorted(points.items())]
        for family, points in sorted(found.items())
        if len(points) > 1
    }


def curve_name(run: Run) -> str:
    """The row's name without the KL coefficient: the method, and other settings in which its runs differ."""
    return row_name(run.family, tuple((name, value) for name, value in run.labels if name != KL))


def measured_on(comparison: Comparison) -> str:
    """The decoding of the frontier: sampled, where it was graded, because KL is an expectation over samples."""
    return comparison.decodings()[-1]


def measures(comparison: Comparison) -> dict[str, Column]:
    """KL, and the reward by every set of scorers, as in the other tables."""
    gold = gold_quality_columns(comparison) if has_gold(comparison) else []
    columns = {column.key: column for column in (*gold, *quality_columns(comparison), *behaviour_columns())}
    return {key: columns[key] for key in MEASURES if key in columns}


def judged_by(comparison: Comparison) -> Column:
    """The reward that is set against KL: gold, else the scorers'."""
    columns = measures(comparison)
    return columns.get("gold_mean_reward", columns["mean_reward"])


def frontier_table(comparison: Comparison) -> Table | None:
    """One row for each method and coefficient, with means and intervals over seeds."""
    columns, decoding = measures(comparison), measured_on(comparison)
    rows = [
        (
            family,
            f"{point.kl_coefficient:g}",
            str(len(point.runs)),
            *(column.text(column.over_seeds(point.runs, decoding)) for column in columns.values()),
        )
        for family, points in frontiers(comparison).items()
        for point in points
    ]
    header = ("method", "KL coefficient", "seeds", *(column.title for column in columns.values()))
    return Table(header, tuple(rows)) if rows else None


def root_kl(kl: float) -> float:
    """The square root of a KL.

    An estimate from samples may be below 0 where the policy has not moved; it counts as 0.
    """
    return math.sqrt(max(0.0, kl))
