"""Paired differences of two methods, on one task or several: their mean, a test of no difference, one of equality.

Differences come as one array for each task, with a value for each pair of runs. What is estimated is the mean over
tasks of the mean difference: a task with more seeds does not weigh more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr  # Student's cumulative distribution; scipy.stats takes a second to import

from emorl_bench.indicators.intervals import Interval, paired_permutation_test, t_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean over tasks, its standard error, and the degrees of freedom of the error (Welch & Satterthwaite)."""

    mean: float
    error: float
    freedom: float
    pairs: int

    def interval(self, level: float = 0.95) -> Interval:
        """Student's t interval. The bounds are NaN where a task has a single pair."""
        half = t_quantile((1 + level) / 2, self.freedom) * self.error if self.freedom > 0 else float("nan")
        return Interval(self.mean, self.mean - half, self.mean + half, self.pairs)


def estimate(differences_T: Sequence[ArrayLike]) -> Estimate:
    """Mean over tasks of the mean difference. One task: the usual paired estimate with n - 1 degrees of freedom.

    Raises:
        ValueError: a task has no pair.
    """
    arrays = [np.asarray(differences, dtype=np.float64) for differences in differences_T]
    if not arrays or not all(differences.size for differences in arrays):
        raise ValueError("a mean over tasks needs at least one pair of each")
    mean, pairs = float(np.mean([d.mean() for d in arrays])), sum(d.size for d in arrays)
    if min(d.size for d in arrays) < 2:
        return Estimate(mean, float("nan"), 0.0, pairs)
    parts = np.array([d.var(ddof=1) / d.size for d in arrays]) / len(arrays) ** 2
    left = np.array([d.size - 1 for d in arrays])
    spread = float((parts**2 / left).sum())
    freedom = float(parts.sum() ** 2 / spread) if spread > 0 else float(left.sum())
    return Estimate(mean, float(np.sqrt(parts.sum())), freedom, pairs)


def permutation_p(differences_T: Sequence[ArrayLike]) -> float:
    """Two-sided p value of the mean over tasks, if the sign of each pair's difference is random.

    It is exact up to 16 pairs (`paired_permutation_test`).
    """
    weighted = np.concatenate([np.asarray(d, dtype=np.float64) / np.size(d) for d in differences_T])
    return paired_permutation_test(weighted, np.zeros_like(weighted))


def t_test_p(differences_T: Sequence[ArrayLike]) -> float:
    """Two-sided p value of the mean over tasks, if differences are about normal (Student; Welch over tasks).

    It is 1 where a task has one pair.
    """
    found = estimate(differences_T)
    if found.freedom <= 0 or found.mean == 0:
        return 1.0
    return float(2 * stdtr(found.freedom, -abs(found.mean) / found.error)) if found.error > 0 else 0.0


def equivalence_p(differences_T: Sequence[ArrayLike], margin: float) -> float:
    """P value of "the mean difference is at least ``margin``, one way or the other": small where the two are equal.

    Two one-sided t tests (Schuirmann, 1987); it is the larger of their p values. It is 1 where a task has one pair.
    A p of at most 5 % is the same as a 90 % interval within ± margin.
    """
    found = estimate(differences_T)
    if found.freedom <= 0:
        return 1.0
    if found.error == 0:
        return 0.0 if abs(found.mean) < margin else 1.0
    return float(stdtr(found.freedom, (abs(found.mean) - margin) / found.error))


def unseen_share(pairs: int, level: float = 0.95) -> float:
    """The largest share of failing runs that ``pairs`` runs without a failure still allow (the rule of three)."""
    return float(1 - (1 - level) ** (1 / pairs))
