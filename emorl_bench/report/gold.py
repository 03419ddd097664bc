"""Gold: the true value of answers, on a scale from the untrained base (0) to the best possible answers (1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emorl_bench.indicators.intervals import Interval, t_interval
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.read import Run
from emorl_bench.report.reading import Read, deployed_by

BASE = "base"  # the method that trains nothing
GOLD = deployed_by("gold_")
TOLERANCE = 1e-6  # tolerance between two means of the same numbers


@dataclass(frozen=True)
class Normalised:
    """(gold - base) / (ceiling - base), with the mean of the base over its seeds."""

    base: float
    ceiling: float

    def __call__(self, run: Run, decoding: str) -> float | None:
        """The normalised gold of a run; None where it has no gold."""
        gold = GOLD(run, decoding)
        return None if gold is None else (gold - self.base) / (self.ceiling - self.base)


def has_gold(comparison: Comparison) -> bool:
    """Whether a run of the comparison has gold scores."""
    return any(GOLD(run, name) is not None for run in comparison.runs for name in run.decoding)


def is_reward(comparison: Comparison, scores: str = "gold") -> bool:
    """Whether a set of scorers gives every graded policy the same scores as the scorers that methods are given.

    True where the reward is the truth. A method that chooses with the scorers then chooses with this set.
    """
    points = [point for run in comparison.runs for graded in run.decoding.values() for point in graded["points"]]
    return all(_same(point.get(scores) or {}, point["objectives"]) for point in points)


def _same(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> bool:
    if one.keys() != other.keys():
        return False
    pairs = [(one[name], other[name]) for name in one]
    return all(a == b or (a is not None and b is not None and abs(a - b) < TOLERANCE) for a, b in pairs)


def ceiling(comparison: Comparison) -> dict[str, Any] | None:
    """The record of the best possible answers; the same for all runs of one comparison."""
    return next((dict(run.ceiling) for run in comparison.runs if run.ceiling), None)


def ceiling_row(comparison: Comparison) -> dict[str, float]:
    """Column -> its value for the best possible answers."""
    best = ceiling(comparison)
    if best is None:
        return {}
    uniform = np.abs(comparison.runs[0].preferences_WK - 1 / len(comparison.objectives)).sum(1).argmin()
    found = {"gold_deployed_utility": best["mean_utility"], "gold_mean_reward": best["uniform"]}
    scores = zip(comparison.objectives, best["objectives"][int(uniform)], strict=True)
    found |= {f"gold_{name}": score for name, score in scores}
    return found | {"normalised_gold": 1.0}


def normalised(comparison: Comparison, decoding: str) -> Read:
    """Reads normalised gold.

    It is None for every run where there is no ceiling, no run of the base, or no room between them.
    """
    bases = [GOLD(run, decoding) for run in comparison.runs if run.family == BASE and decoding in run.decoding]
    known, best = [value for value in bases if value is not None], ceiling(comparison)
    if not known or best is None or best["mean_utility"] <= (base := sum(known) / len(known)):
        return lambda run, decoding: None
    return Normalised(base, best["mean_utility"])


@dataclass(frozen=True)
class Overall:
    """One method over tasks: an interval for each task (None: not run there).

    ``mean`` is the interval of the mean over the tasks; None where the method was not run in all of them.
    """

    method: str
    tasks: tuple[Interval | None, ...]
    mean: Interval | None


def over_tasks(comparisons: Sequence[Comparison], decoding: str) -> list[Overall]:
    """Normalised gold by method, best first. The unit of the mean over tasks is a seed, averaged over the tasks.

    A method that chooses with the truth itself is left out of that task.
    """
    by_task: list[dict[str, dict[int, float]]] = []
    for comparison in comparisons:
        read, found, truth = normalised(comparison, decoding), {}, is_reward(comparison)
        for method, runs in comparison.methods(decoding).items():
            if truth and any(run.chooses for run in runs):
                continue
            values = {run.seed: value for run in runs if (value := read(run, decoding)) is not None}
            if values:
                found[method] = values
        by_task.append(found)
    rows = []
    for method in sorted(set().union(*by_task)):
        each = [found.get(method) for found in by_task]
        tasks = tuple(None if values is None else t_interval(list(values.values())) for values in each)
        shared = set.intersection(*(set(values or ()) for values in each))
        means = [sum(values[seed] for values in each if values) / len(each) for seed in sorted(shared)]
        rows.append(Overall(method, tasks, t_interval(means) if means else None))
    return sorted(rows, key=lambda row: (row.mean is None, -(row.mean.mean if row.mean else 0.0), row.method))
