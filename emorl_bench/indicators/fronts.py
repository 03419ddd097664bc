"""Indicators of a set of score vectors: how much a method offers to people who want different things.

A front is (N, K): one row for each preference a method was asked for; higher is better throughout. Hypervolume needs
a reference point and utility a set of preferences, and both are fixed in advance: an observed minimum would let the
worst method move everybody's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

Floats = NDArray[np.float64]


def simplex_grid(objectives: int, divisions: int) -> Floats:
    """(W, K) preferences: every vector of multiples of 1/divisions that sums to 1, and the uniform one.

    The lattice of Das & Dennis (1998); the corners are in it, the centre is added where the lattice misses it. No
    divisions: the centre alone.
    """
    if objectives < 1 or divisions < 0:
        raise ValueError(f"simplex_grid needs objectives >= 1 and divisions >= 0, not {objectives} and {divisions}")
    centre_K = np.full(objectives, 1 / objectives)
    if divisions == 0:
        return centre_K[None]
    slots = divisions + objectives - 1  # stars and bars: the K-1 bars cut `divisions` stars into K shares
    bars = np.array([(-1, *cut, slots) for cut in combinations(range(slots), objectives - 1)])
    grid_WK = (np.diff(bars, axis=1) - 1)[::-1] / divisions
    contained = bool(np.isclose(grid_WK, centre_K).all(axis=1).any())
    return grid_WK if contained else np.vstack([grid_WK, centre_K])


def hypervolume(points_NK: ArrayLike, reference_K: ArrayLike | None = None) -> float:
    """Volume that the points dominate above the reference, the zero vector by default (Zitzler & Thiele, 1999)."""
    points = _front(points_NK)
    reference = np.zeros(points.shape[1]) if reference_K is None else np.asarray(reference_K, dtype=np.float64)
    return float(moocore.hypervolume(points, ref=reference, maximise=True))


def deployed_utility(points_WK: ArrayLike, preferences_WK: ArrayLike) -> float:
    """Mean over preferences of what each makes of the policy that was deployed for it; row w answers preference w.

    A score that is NaN does not apply, and the preference's other weights are scaled up. NaN where nothing applies.
    Not the expected utility of Zintgraf et al. (2015), which takes the best point of the front: nobody who deploys a
    policy knows which point that is on prompts to come.
    """
    points, preferences = np.asarray(points_WK, dtype=np.float64), np.asarray(preferences_WK, dtype=np.float64)
    weights = np.where(np.isnan(points), 0.0, preferences)
    left, wanted = weights.sum(axis=1), preferences.sum(axis=1)
    worth = (weights * np.nan_to_num(points)).sum(axis=1)[left > 0] * wanted[left > 0] / left[left > 0]
    return float(worth.mean()) if worth.size else float("nan")


def worst_objective(scores_K: ArrayLike) -> float:
    """The score of the objective that came off worst."""
    return float(np.min(np.asarray(scores_K, dtype=np.float64)))


def pooled_front(fronts: Sequence[ArrayLike]) -> Floats:
    """The points of all fronts that none other dominates: the reference set of `igd_plus` and `additive_epsilon`."""
    pooled = np.vstack([_front(front) for front in fronts])
    return np.asarray(moocore.filter_dominated(pooled, maximise=True), dtype=np.float64)


def igd_plus(points_NK: ArrayLike, reference_RK: ArrayLike) -> float:
    """Mean distance by which a reference point is still unmatched (Ishibuchi et al., 2015); 0 is best."""
    return float(moocore.igd_plus(_front(points_NK), ref=_front(reference_RK), maximise=True))


def additive_epsilon(points_NK: ArrayLike, reference_RK: ArrayLike) -> float:
    """The least amount to add to the points so that they weakly dominate the reference (Zitzler et al., 2003)."""
    return float(moocore.epsilon_additive(_front(points_NK), ref=_front(reference_RK), maximise=True))


def controllability(preferences_WK: ArrayLike, scores_WK: ArrayLike) -> float:
    """Spearman correlation of weight asked and score got, averaged over objectives: does the knob turn anything?

    An objective whose score or weight never moves has no rank correlation and counts as 0.
    """
    preferences, scores = np.asarray(preferences_WK, dtype=np.float64), _front(scores_WK)
    moved = [k for k in range(scores.shape[1]) if np.ptp(scores[:, k]) > 0 and np.ptp(preferences[:, k]) > 0]
    return float(sum(spearmanr(preferences[:, k], scores[:, k]).statistic for k in moved) / scores.shape[1])


def _front(points_NK: ArrayLike) -> Floats:
    points = np.atleast_2d(np.asarray(points_NK, dtype=np.float64))
    if points.ndim != 2 or not points.size or not np.isfinite(points).all():
        raise ValueError(f"a front is a finite, non-empty (N, K) array, not {points.tolist()}")
    return points
