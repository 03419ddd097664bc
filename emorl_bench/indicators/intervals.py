"""How certain a number is: intervals over seeds and prompts, and paired tests between methods.

The unit of replication is the training seed. Prompts of one seed share a policy. To count them as independent runs
would suggest far more certainty than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # Student's t quantile; scipy.stats takes a second to import

EXACT_UP_TO = 16  # pairs: 2**16 sign patterns are enumerated, more are sampled
SAMPLED_PATTERNS = 65_536


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval from ``n`` seeds. The bounds are NaN where n = 1."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the distance between the bounds."""
        return (self.high - self.low) / 2


def t_interval(values_N: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean over seeds.

    It holds at 3 seeds, where a bootstrap of 3 values is far too narrow.
    """
    values = np.asarray(values_N, dtype=np.float64)
    mean, n = float(values.mean()), values.size
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(t_quantile((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@lru_cache(maxsize=1024)
def t_quantile(share: float, freedom: float) -> float:
    """Student's quantile. A report asks for the same few thousands of times."""
    return float(stdtrit(freedom, share))


def hierarchical_bootstrap(
    values_NP: ArrayLike, rng: np.random.Generator, resamples: int = 4000, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean: seeds (rows) are resampled, and then prompts (columns). NaN does not apply.

    Every seed is graded on the same prompts, so one draw of prompts serves all rows of a resample. To draw them for
    each row would average out how difficult the prompts are.
    """
    values = np.atleast_2d(np.asarray(values_NP, dtype=np.float64))
    n, prompts = values.shape
    # How often each row and column is drawn; a resample's mean is then a weighted mean, and needs no copy of the data.
    rows_RN = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    columns_RP = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    known = np.isfinite(values)
    total_R = np.einsum("rn,np,rp->r", rows_RN, np.where(known, values, 0.0), columns_RP, optimize=True)
    count_R = np.einsum("rn,np,rp->r", rows_RN, known.astype(np.float64), columns_RP, optimize=True)
    means = total_R[count_R > 0] / count_R[count_R > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[known].mean()), float(low), float(high), n)


def paired_permutation_test(a_N: ArrayLike, b_N: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """Two-sided p value of mean(a - b), if the sign of each pair's difference is random (Fisher, 1935).

    It is exact up to 16 pairs, where the smallest possible p is 2/2**n (`smallest_p`). Beyond that signs are sampled.

    Raises:
        ValueError: there are no pairs.
    """
    difference = np.asarray(a_N, dtype=np.float64) - np.asarray(b_N, dtype=np.float64)
    if not difference.size:
        raise ValueError("a paired test needs at least one pair")
    exact = difference.size <= EXACT_UP_TO
    signs = _all_signs(difference.size) if exact else _some_signs(difference.size, rng or np.random.default_rng(0))
    observed = abs(difference.sum())
    tolerance = 1e-12 * np.abs(difference).sum()  # sums in another order may differ in the last bit
    extreme = int((np.abs(signs @ difference) >= observed - tolerance).sum())
    return extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p value that a paired permutation test of this many pairs can give."""
    return min(1.0, 2.0 / 2.0**pairs)


def holm(p_values: Sequence[float], most_true: int | None = None) -> list[float]:
    """Adjusted p values in the given order. The family-wise error holds without independence (Holm, 1979).

    Args:
        p_values: one for each hypothesis.
        most_true: how many of the hypotheses can be true at once, where that is fewer than all. "No difference" and "a
            difference of at least 0.02" cannot both be true of one method. The factor then begins with this number
            (Shaffer, 1986, S1).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, floor, most = [0.0] * len(p_values), 0.0, len(p_values) if most_true is None else most_true
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, min(most, len(p_values) - rank) * p_values[i]))
        adjusted[i] = floor
    return adjusted


def _all_signs(n: int) -> NDArray[np.float64]:
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.where(bits == 1, -1.0, 1.0)


def _some_signs(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.choice([-1.0, 1.0], size=(SAMPLED_PATTERNS, n))
