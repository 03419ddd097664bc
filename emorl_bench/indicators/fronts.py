"""Indicators of a set of score vectors: what a method offers to people with different preferences.

A front is (N, K): one row for each preference that a method was asked for. Higher is better throughout. Hypervolume
needs a reference point, and utility a set of preferences. Both are fixed in advance: with an observed minimum, the
worst method would move the numbers of all methods.
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

    This is the lattice of Das & Dennis (1998). It has the corners; the centre is added where the lattice lacks it. With
    ``divisions=0`` it is the centre alone.

    Raises:
        ValueError: there is no objective, or ``divisions`` is below 0.
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
    """Mean over preferences of the utility of the policy that was deployed for each; row w answers preference w.

    A NaN score does not apply: the other weights of the preference are scaled up. The result is NaN where nothing
    applies. This is not the expected utility of Zintgraf et al. (2015), which takes the best point of the front for
    each preference: whoever deploys a policy does not know which point is the best on future prompts.
    """
    points, preferences = np.asarray(points_WK, dtype=np.float64), np.asarray(preferences_WK, dtype=np.float64)
    weights = np.where(np.isnan(points), 0.0, preferences)
    left, wanted = weights.sum(axis=1), preferences.sum(axis=1)
    worth = (weights * np.nan_to_num(points)).sum(axis=1)[left > 0] * wanted[left > 0] / left[left > 0]
    return float(worth.mean()) if worth.size else float("nan")


def worst_objective(scores_K: ArrayLike) -> float:
    """The score of the objective with the lowest score."""
    return float(np.min(np.asarray(scores_K, dtype=np.float64)))


def pooled_front(fronts: Sequence[ArrayLike]) -> Floats:
    """The points of all fronts that no other one dominates: the reference set of `igd_plus` and `additive_epsilon`."""
    pooled = np.vstack([_front(front) for front in fronts])
    return np.asarray(moocore.filter_dominated(pooled, maximise=True), dtype=np.float64)


def igd_plus(points_NK: ArrayLike, reference_RK: ArrayLike) -> float:
    """Mean distance by which the reference points are not reached (Ishibuchi et al., 2015); 0 is best."""
    return float(moocore.igd_plus(_front(points_NK), ref=_front(reference_RK), maximise=True))


def additive_epsilon(points_NK: ArrayLike, reference_RK: ArrayLike) -> float:
    """The smallest amount that, added to the points, lets them weakly dominate the reference (Zitzler et al. 2003)."""
    return float(moocore.epsilon_additive(_front(points_NK), ref=_front(reference_RK), maximise=True))


def controllability(preferences_WK: ArrayLike, scores_WK: ArrayLike) -> float:
    """Spearman correlation of requested weight and resulting score, averaged over objectives.

    An objective whose score or weight is constant has no rank correlation and counts as 0.
    """
    preferences, scores = np.asarray(preferences_WK, dtype=np.float64), _front(scores_WK)
    moved = [k for k in range(scores.shape[1]) if np.ptp(scores[:, k]) > 0 and np.ptp(preferences[:, k]) > 0]
    return float(sum(spearmanr(preferences[:, k], scores[:, k]).statistic for k in moved) / scores.shape[1])


def _front(points_NK: ArrayLike) -> Floats:
    points = np.atleast_2d(np.asarray(points_NK, dtype=np.float64))
    if points.ndim != 2 or not points.size or not np.isfinite(points).all():
        raise ValueError(f"a front is a finite, non-empty (N, K) array, not {points.tolist()}")
    return points
