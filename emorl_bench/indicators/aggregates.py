"""Runs of several tasks as one number: interquartile mean, performance profile, probability of improvement.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021). Scores come as
one array for each task, with a value for each run (seed). A bootstrap is stratified: it draws runs within each task,
and never tasks, because the tasks of a benchmark are chosen and not a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emorl_bench.indicators.intervals import Interval

Floats = NDArray[np.float64]
RESAMPLES = 4000
QUARTER = 0.25  # share of runs that the interquartile mean leaves out at each end


def iqm(values: ArrayLike) -> Floats:
    """Mean of the middle half of the runs, over the last axis.

    Unlike the mean, one failed run does not decide it; unlike the median, half of the runs do. A quarter of n runs is
    rounded down, so up to three runs have their plain mean.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = int(QUARTER * ordered.shape[-1])
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def iqm_interval(
    scores_T: Sequence[ArrayLike], seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """The interquartile mean over all runs of all tasks, with its stratified percentile bootstrap."""
    arrays = _arrays(scores_T)
    drawn_RN = np.concatenate(
        [runs_N[_places(runs_N.size, resamples, (seed, task))] for task, runs_N in enumerate(arrays)], axis=1
    )
    low, high = _percentiles(iqm(drawn_RN), level)
    pooled = np.concatenate(arrays)
    return Interval(float(iqm(pooled)), float(low), float(high), pooled.size)


def probability_of_improvement(
    a_T: Sequence[ArrayLike],
    b_T: Sequence[ArrayLike],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """How often a run of one method beats one of another on the same task, averaged over tasks.

    All pairs of runs count, and a tie counts one half: equal methods have 0.5. The interval is a stratified percentile
    bootstrap over the runs of both.

    Raises:
        ValueError: the two have different numbers of tasks.
    """
    pairs = list(zip(_arrays(a_T), _arrays(b_T), strict=True))
    shares, drawn_R = [], np.zeros(resamples)
    for task, (a_N, b_M) in enumerate(pairs):
        wins_NM = (a_N[:, None] > b_M[None]) + 0.5 * (a_N[:, None] == b_M[None])
        shares.append(wins_NM.mean())
        # How often each run is drawn; a resample's share is then a weighted mean, and needs no copy of the data.
        rows_RN, columns_RM = (_counts(n, resamples, (seed, task, i)) for i, n in enumerate(wins_NM.shape))
        drawn_R += ((rows_RN @ wins_NM) * columns_RM).sum(axis=1) / wins_NM.size / len(pairs)
    low, high = _percentiles(drawn_R, level)
    runs = min(sum(a.size for a, _ in pairs), sum(b.size for _, b in pairs))
    return Interval(float(np.mean(shares)), float(low), float(high), runs)


@dataclass(frozen=True)
class Profile:
    """Share of runs above each threshold, mean over tasks, with pointwise bootstrap bounds; arrays (X,)."""

    thresholds_X: Floats
    share_X: Floats
    low_X: Floats
    high_X: Floats


def performance_profile(
    scores_T: Sequence[ArrayLike],
    thresholds_X: ArrayLike,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Profile:
    """The share of runs whose score is above a threshold, averaged over tasks (Dolan & Moré, 2002).

    A curve that lies above another one everywhere is stochastically dominant: better at every threshold.
    """
    thresholds, arrays = np.asarray(thresholds_X, dtype=np.float64), _arrays(scores_T)
    share_X, drawn_RX = np.zeros(thresholds.size), np.zeros((resamples, thresholds.size))
    for task, runs_N in enumerate(arrays):
        above_NX = runs_N[:, None] > thresholds
        counts_RN = _counts(runs_N.size, resamples, (seed, task))
        share_X += above_NX.mean(axis=0) / len(arrays)
        drawn_RX += counts_RN @ above_NX / runs_N.size / len(arrays)
    low_X, high_X = _percentiles(drawn_RX, level)
    return Profile(thresholds, share_X, low_X, high_X)


def _arrays(scores_T: Sequence[ArrayLike]) -> list[Floats]:
    arrays = [np.asarray(scores, dtype=np.float64) for scores in scores_T]
    if not arrays or not all(scores.ndim == 1 and scores.size for scores in arrays):
        raise ValueError("scores of several tasks are one non-empty array (N,) for each task")
    return arrays


@lru_cache(maxsize=64)
def _counts(n: int, resamples: int, key: tuple[int, ...]) -> Floats:
    """(R, N) how often each of n runs is in each resample. A report draws the same ones for all methods."""
    counts = np.random.default_rng(key).multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts.astype(np.float64)


@lru_cache(maxsize=64)
def _places(n: int, resamples: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """(R, N) the runs of each resample."""
    return np.random.default_rng(key).integers(n, size=(resamples, n))


def _percentiles(drawn: Floats, level: float) -> tuple[Floats, Floats]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
