"""A map from the unit cube to the simplex that keeps uniform points uniform: Dirichlet(1, ..., 1).

A stick of length 1 is broken M-1 times. Where ``m`` parts are still to come, the next one takes ``1 - (1 - u)^(1/(m -
1))`` of the rest, which is the inverse distribution function of Beta(1, m - 1) (Rosenblatt's transform; Fang & Wang
1994, section 1.5). The map is one-to-one inside, smooth, and of constant density. So low-discrepancy points stay even,
and no dimension is redundant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

Floats = NDArray[np.float64]


def to_simplex(cube_WD: Floats) -> Floats:
    """(W, M-1) points of the unit cube -> (W, M), each row a point of the simplex."""
    count, breaks = cube_WD.shape
    kept_WD = (1 - cube_WD) ** (1 / np.arange(breaks, 0, -1))
    whole_W1 = np.ones((count, 1))
    left_WM = np.cumprod(
        np.hstack([whole_W1, kept_WD]), axis=1
    )  # what is left before each break and after the last one
    return np.asarray(left_WM * np.hstack([1 - kept_WD, whole_W1]), dtype=np.float64)


def corners_of_cube(experts: int) -> Floats:
    """(M, M-1) points that `to_simplex` maps to the corners. Coordinates that make no difference there are 0.5."""
    steps = np.arange(experts)
    cube_MD = np.where(steps[:, None] > steps, 0.0, 0.5)
    cube_MD[steps, steps] = 1.0
    return cube_MD[:, : experts - 1]


def sobol_points(count: int, experts: int, seed: int) -> Floats:
    """(W, M) scrambled Sobol points on the simplex. A shorter sequence is the beginning of a longer one."""
    if experts == 1:
        return np.ones((count, 1))
    power = max(count - 1, 1).bit_length()  # the balance of Sobol points is that of powers of 2
    return to_simplex(qmc.Sobol(experts - 1, seed=seed).random_base2(power)[:count])
