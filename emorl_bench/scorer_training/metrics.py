"""How good a scorer is, and how certain that is: order, classes, calibration, and intervals over groups.

Rows of one prompt (post, review) are not independent, so intervals resample groups with all their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Statistic = Callable[[Ints], float]  # of a resample, given as row numbers

RESAMPLES = 1000
LEVEL = 0.95
BINS = 10
NEAR_WORDS = 3  # two responses have matched length where they differ by at most this many words


def words(text: str) -> int:
    """Number of words of a text."""
    return len(text.split())


def interval(statistic: Statistic, groups: Sequence[object], rows: int | None = None) -> dict[str, float]:
    """The statistic of all rows, with a 95 % percentile interval. ``groups`` names the group of each row.

    ``n`` is the number of rows, or ``rows`` where something else is counted. Resamples in which the statistic is not
    defined (NaN) are left out.
    """
    members = _members(groups)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        indices = rng.integers(len(members), size=len(members))
        draws.append(statistic(np.concatenate([members[i] for i in indices])))
    known = np.asarray(draws)[np.isfinite(draws)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known.size else (np.nan, np.nan)
    value = statistic(np.arange(len(groups)))
    return {"value": float(value), "low": float(low), "high": float(high), "n": len(groups) if rows is None else rows}


def mean_of(values_N: Floats) -> Statistic:
    """The mean of values, as a statistic of a resample."""
    return lambda indices: float(values_N[indices].mean()) if indices.size else float("nan")


def wins(better_N: Floats, worse_N: Floats) -> Floats:
    """1 where the better one scores higher, one half where both are equal, else 0."""
    won: Floats = (better_N > worse_N) + 0.5 * (better_N == worse_N)
    return won


def concordance(value_N: Floats, level_N: Ints, near_NN: NDArray[np.bool_] | None = None) -> tuple[Statistic, int]:
    """Share of pairs of rows with different levels in which the higher level has the higher value, and their number.

    ``near_NN`` selects the pairs that count. With two levels this is the area under the ROC curve.
    """
    counted_NN = level_N[:, None] > level_N[None, :]
    if near_NN is not None:
        counted_NN = counted_NN & near_NN
    won_NN = wins(value_N[:, None], value_N[None, :]) * counted_NN
    counted = counted_NN.astype(np.float64)

    def statistic(indices: Ints) -> float:
        times_N = np.bincount(indices, minlength=len(level_N)).astype(np.float64)
        pairs = times_N @ counted @ times_N
        return float(times_N @ won_NN @ times_N / pairs) if pairs else float("nan")

    return statistic, int(counted.sum())


def macro_f1(predicted_N: Ints, level_N: Ints, levels: int) -> Statistic:
    """Mean F1 of the levels that occur. A level that is never predicted correctly counts 0."""

    def statistic(indices: Ints) -> float:
        table = np.zeros((levels, levels))
        np.add.at(table, (level_N[indices], predicted_N[indices]), 1)
        both = table.sum(0) + table.sum(1)
        present = table.sum(1) > 0
        return float((2 * np.diag(table)[present] / both[present]).mean())

    return statistic


def rank_correlations(value_N: Floats, level_N: Ints) -> dict[str, Statistic]:
    """Spearman's rho and Kendall's tau-b, which are not defined where all rows have one level or value."""

    def of(correlation: Callable[..., Any]) -> Statistic:
        def statistic(indices: Ints) -> float:
            value, level = value_N[indices], level_N[indices]
            if np.ptp(value) == 0 or np.ptp(level) == 0:
                return float("nan")
            return float(correlation(value, level).statistic)

        return statistic

    return {"spearman": of(spearmanr), "kendall": of(kendalltau)}


def reliability(probability_N: Floats, outcome_N: Floats) -> dict[str, Any]:
    """Expected calibration error in ten bins of equal width; rows, mean probability and frequency of each bin."""
    bin_N = np.minimum((probability_N * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        rows = bin_N == number
        if rows.any():
            said, was = float(probability_N[rows].mean()), float(outcome_N[rows].mean())
            bins.append({"rows": int(rows.sum()), "probability": said, "frequency": was})
    error = sum(b["rows"] * abs(b["probability"] - b["frequency"]) for b in bins) / len(probability_N)
    return {"ece": float(error), "bins": bins}


def _members(groups: Sequence[object]) -> list[Ints]:
    rows: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.asarray(found, dtype=np.int64) for found in rows.values()]
