"""How much one more point would add to the hypervolume of a front (Zitzler & Thiele 1999).

Any number of objectives.
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def volume(points_NK: Floats, reference_K: Floats) -> float:
    """Volume of the region between the reference and the points (N, K). Higher is better."""
    if not len(points_NK):
        return 0.0
    return float(moocore.hypervolume(np.maximum(points_NK, reference_K), ref=reference_K, maximise=True))


def added_volume(front_NK: Floats, point_K: Floats, reference_K: Floats) -> float:
    """``HV(front and point) - HV(front)``: the point's box without the part that boxes of the front cover."""
    covered_NK = np.minimum(front_NK, point_K)
    return float(_box(point_K, reference_K)) - volume(covered_NK, reference_K)


def best_addition(front_NK: Floats, points_CK: Floats, reference_K: Floats) -> int:
    """Index of the point that adds most; the first one of equals.

    A point adds at most its box without its largest overlap with one box of the front. Points are tried in the order of
    this bound, and the rest is dropped as soon as no bound exceeds the best addition found. So the result is the same
    as if all points were tried.
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
