"""Reward against KL to the base, over the KL coefficient: what a method gains for how far it strays.

At one coefficient a method may just stand further along the curve of another, so a claim such as CORY's (2410.06101:
the reward of PPO at less KL) is one about curves. A method's points are its runs that differ in
``update.kl_coefficient`` alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from emorl_bench.report.columns import Column, behaviour_columns, gold_quality_columns, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.tables import Table

MEASURES = ("kl", "mean_reward", "held_out_mean_reward", "gold_mean_reward")


@dataclass(frozen=True)
class Point:
    """One method at one KL coefficient, all its seeds."""

    kl_coefficient: float
    runs: tuple[Run, ...]


def frontiers(comparison: Comparison) -> dict[str, list[Point]]:
    """Methods that were run at two or more KL coefficients; the coefficients rise."""
    found: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(comparison.runs, key=lambda run: run.seed):
        if run.kl_coefficient is not None and measured_on(comparison) in run.decoding:
            found[run.family][run.kl_coefficient].append(run)
    return {
        family: [Point(coefficient, tuple(runs)) for coefficient, runs in sorted(points.items())]
        for family, points in sorted(found.items())
        if len(points) > 1
    }


def measured_on(comparison: Comparison) -> str:
    """KL is an expectation over samples, so its reward is that of sampled answers, where they were graded."""
    return comparison.decodings()[-1]


def measures(comparison: Comparison) -> dict[str, Column]:
    """KL and reward by every set of scorers that there is, as the other tables read them."""
    gold = gold_quality_columns(comparison) if has_gold(comparison) else []
    columns = {column.key: column for column in (*gold, *quality_columns(comparison), *behaviour_columns())}
    return {key: columns[key] for key in MEASURES if key in columns}


def judged_by(comparison: Comparison) -> Column:
    """Whose reward is set against KL: gold, else the scorers."""
    columns = measures(comparison)
    return columns.get("gold_mean_reward", columns["mean_reward"])


def frontier_table(comparison: Comparison) -> Table | None:
    """One row for each method and coefficient, means with intervals over seeds."""
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
    """Its square root; an estimate from samples may lie below 0, where nothing has moved."""
    return math.sqrt(max(0.0, kl))
