"""What one more point would add to the hypervolume of a front (Zitzler & Thiele 1999), for any number of objectives."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def volume(points_NK: Floats, reference_K: Floats) -> float:
    """Volume that the points dominate above the reference; higher is better."""
    if not len(points_NK):
        return 0.0
    return float(moocore.hypervolume(np.maximum(points_NK, reference_K), ref=reference_K, maximise=True))


def added_volume(front_NK: Floats, point_K: Floats, reference_K: Floats) -> float:
    """``HV(front and point) - HV(front)``: the point's box without what the front's boxes cover of it."""
    covered_NK = np.minimum(front_NK, point_K)
    return float(_box(point_K, reference_K)) - volume(covered_NK, reference_K)


def best_addition(front_NK: Floats, points_CK: Floats, reference_K: Floats) -> int:
    """Which of the points adds most; the first of equals.

    A point adds at most its box without the largest overlap with one box of the front. Points are tried by that bound,
    and the rest is dropped as soon as no bound is above what was found: the answer is that of trying all.
    """
    bound_C = _box(points_CK, reference_K)
    if len(front_NK):
        bound_C = bound_C - _box(np.minimum(front_NK[None], points_CK[:, None]), reference_K).max(1)
    best, most = 0, -np.inf
    for c in np.argsort(-bound_C, kind="stable").tolist():
        if bound_C[c] < most:
            break
        added = added_volume(front_NK, points_CK[c], reference_K)
        if added > most or (added == most and c < best):
            best, most = c, added
    return best


def _box(points_XK: Floats, reference_K: Floats) -> Floats:
    return np.asarray(np.maximum(points_XK - reference_K, 0.0).prod(-1))
