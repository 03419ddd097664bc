"""An exact Gaussian process for a few dozen noisy values (Rasmussen & Williams 2006, chapters 2 and 5).

The kernel is Matérn-5/2 with one length scale. The mean is constant: that of the values. The noise is Gaussian. The
variance of the signal has a closed form given the rest. The length scale and the noise are the most likely ones of a
fixed grid. There is no optimiser, so the fit is the same on every machine and cannot end in a local optimum. One
eigendecomposition serves all noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]
Spectrum = tuple[Floats, Floats]

LENGTHS = np.geomspace(0.1, 5.0, 12)  # the simplex is 1.41 wide
NOISES = np.geomspace(1e-6, 1.0, 13)  # of the signal's variance
LEAST_VARIANCE = 1e-18  # of values that are all equal


@dataclass(frozen=True)
class GaussianProcess:
    """A posterior. ``signal`` is the variance of the signal, ``noise`` the variance of the noise divided by it."""

    x_ND: Floats
    y_N: Floats
    length: float
    noise: float
    signal: float

    @cached_property
    def _lower_NN(self) -> Floats:
        kernel_NN = matern(cdist(self.x_ND, self.x_ND), self.length) + self.noise * np.eye(len(self.x_ND))
        return np.asarray(cholesky(kernel_NN, lower=True))

    @cached_property
    def _weights_N(self) -> Floats:
        return np.asarray(cho_solve((self._lower_NN, True), self.y_N - self.y_N.mean()))

    @classmethod
    def fit(cls, x_ND: Floats, y_N: Floats, spectra: Sequence[Spectrum] | None = None) -> GaussianProcess:
        """The most likely process of the grid.

        Args:
            x_ND: N points.
            y_N: the values there.
            spectra: `spectra_of` the points, where several functions are known at the same points.
        """
        likelihood_LS, signal_LS = _likelihoods(spectra or spectra_of(x_ND), y_N)
        length, noise = np.unravel_index(int(likelihood_LS.argmax()), likelihood_LS.shape)
        return cls(x_ND, y_N, float(LENGTHS[length]), float(NOISES[noise]), float(signal_LS[length, noise]))

    def posterior(self, x_CD: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (C,), of the function itself: the noise is not included."""
        cross_NC = matern(cdist(self.x_ND, x_CD), self.length)
        explained_NC = solve_triangular(self._lower_NN, cross_NC, lower=True)
        variance_C = self.signal * np.maximum(1 - (explained_NC**2).sum(0), 0.0)
        mean_C = self.y_N.mean() + cross_NC.T @ self._weights_N
        return mean_C, np.sqrt(variance_C)


def matern(distance: Floats, length: float) -> Floats:
    """Matérn-5/2 correlation (equation 4.17)."""
    scaled = math.sqrt(5) * distance / length
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def spectra_of(x_ND: Floats) -> list[Spectrum]:
    """Eigenvalues and eigenvectors of the kernel matrix at each length scale of `LENGTHS`."""
    distance_NN = cdist(x_ND, x_ND)
    found = [np.linalg.eigh(matern(distance_NN, length)) for length in LENGTHS]
    return [(values_N, vectors_NN) for values_N, vectors_NN in found]


def _likelihoods(spectra: Sequence[Spectrum], y_N: Floats) -> tuple[Floats, Floats]:
    """Log marginal likelihood at each length scale and noise, and the signal's variance that maximises it (eq. 5.8)."""
    values_LN = np.stack([np.maximum(values_N, 0.0) for values_N, _ in spectra])
    squares_LN = np.stack([(vectors_NN.T @ (y_N - y_N.mean())) ** 2 for _, vectors_NN in spectra])
    spectrum_LSN = values_LN[:, None] + NOISES[:, None]
    squares_LS = (squares_LN[:, None] / spectrum_LSN).sum(-1)
    signal_LS = np.maximum(squares_LS / len(y_N), LEAST_VARIANCE)
    constant_LS = np.log(spectrum_LSN).sum(-1) + len(y_N) * np.log(2 * math.pi * signal_LS)
    return -(squares_LS / signal_LS + constant_LS) / 2, signal_LS
