"""Known surfaces for weight searches: K objectives over the weights of as many experts, each with its true optimum.

Every surface is drawn from a seed, and expert k serves objective k best. The optimum of a preference has a closed form
for `Linear` and `Concave`. That of `Multimodal` is searched densely and refined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator


class Surface(Protocol):
    """Scores over the simplex, and the optimum of every preference."""

    def scores(self, weights_WM: Floats) -> Floats:
        """(W, K) of W weight vectors."""

    def optimum(self, preference_K: Floats) -> float:
        """The largest utility on the simplex."""


@dataclass(frozen=True)
class Linear:
    """Scores are the weighted mean of the experts' own scores, so one expert is best for any preference."""

    experts_MK: Floats

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Linear:
        """A random surface of this kind."""
        return cls(0.6 * np.eye(objectives) + 0.4 * rng.random((objectives, objectives)))

    def scores(self, weights_WM: Floats) -> Floats:
        """See `Surface.scores`."""
        return weights_WM @ self.experts_MK

    def optimum(self, preference_K: Floats) -> float:
        """See `Surface.optimum`: the best expert's utility."""
        return float((self.experts_MK @ preference_K).max())


@dataclass(frozen=True)
class Concave:
    """``1 - |w - peak_k|^2``, where each peak lies three quarters of the way to its expert.

    Preferences are served best inside the simplex.
    """

    peaks_KM: Floats

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Concave:
        """A random surface of this kind."""
        return cls(0.75 * np.eye(objectives) + 0.25 * rng.dirichlet(np.ones(objectives), objectives))

    def scores(self, weights_WM: Floats) -> Floats:
        """See `Surface.scores`."""
        return np.asarray(1 - ((weights_WM[:, None] - self.peaks_KM[None]) ** 2).sum(-1))

    def optimum(self, preference_K: Floats) -> float:
        """See `Surface.optimum`.

        The weighted mean of squared distances to the peaks is least at the weighted mean of the peaks.
        """
        return float((self.scores((preference_K @ self.peaks_KM)[None]) @ preference_K)[0])


@dataclass(frozen=True)
class Multimodal:
    """`Concave` with waves across it, in another direction for each objective.

    Attributes:
        smooth: the surface without waves.
        waves_KM: the wave vector of each objective.
        depth: half the height of a wave.
    """

    smooth: Concave
    waves_KM: Floats
    depth: float = 0.12

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Multimodal:
        """A random surface of this kind."""
        directions_KM = rng.normal(size=(objectives, objectives))
        directions_KM -= directions_KM.mean(1, keepdims=True)  # parallel to the simplex
        directions_KM /= np.linalg.norm(directions_KM, axis=1, keepdims=True)
        return cls(Concave.drawn(objectives, rng), 4 * np.pi * directions_KM)

    def scores(self, weights_WM: Floats) -> Floats:
        """See `Surface.scores`."""
        return np.asarray(self.smooth.scores(weights_WM) - self.depth * (1 - np.cos(weights_WM @ self.waves_KM.T)))

    def optimum(self, preference_K: Floats) -> float:
        """See `Surface.optimum`: the best of many random points, refined in twelve rounds."""
        rng, experts = np.random.default_rng(0), len(preference_K)
        points_WM = np.vstack([np.eye(experts), rng.dirichlet(np.ones(experts), 20_000)])
        for step in 0.5 ** np.arange(1, 13):
            utility_W = self.scores(points_WM) @ preference_K
            top_WM = points_WM[np.argsort(-utility_W)[:16]]
            moves_XM = np.repeat(top_WM, 40, axis=0)
            points_WM = np.vstack(
                [top_WM, moves_XM + step * (rng.dirichlet(np.ones(experts), len(moves_XM)) - moves_XM)]
            )
        return float((self.scores(points_WM) @ preference_K).max())


SURFACES: dict[str, type[Linear] | type[Concave] | type[Multimodal]] = {
    "linear": Linear,
    "concave": Concave,
    "multimodal": Multimodal,
}
