"""Known surfaces for weight searches: K objectives over the weights of as many experts, each with its true optimum.

Every surface is drawn from a seed; expert k serves objective k best. A preference's optimum is known in closed form for
`Linear` and `Concave`; that of `Multimodal` is searched densely and polished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator


class Surface(Protocol):
    def scores(self, weights_WM: Floats) -> Floats: ...  # (W, K)
    def optimum(self, preference_K: Floats) -> float: ...  # the largest utility on the simplex


@dataclass(frozen=True)
class Linear:
    """Scores are the weighted mean of the experts' own: one expert is best for any preference."""

    experts_MK: Floats

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Linear:
        return cls(0.6 * np.eye(objectives) + 0.4 * rng.random((objectives, objectives)))

    def scores(self, weights_WM: Floats) -> Floats:
        return weights_WM @ self.experts_MK

    def optimum(self, preference_K: Floats) -> float:
        return float((self.experts_MK @ preference_K).max())


@dataclass(frozen=True)
class Concave:
    """``1 - |w - peak_k|^2``, each peak three quarters of the way to its expert: preferences are best served inside."""

    peaks_KM: Floats

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Concave:
        return cls(0.75 * np.eye(objectives) + 0.25 * rng.dirichlet(np.ones(objectives), objectives))

    def scores(self, weights_WM: Floats) -> Floats:
        return np.asarray(1 - ((weights_WM[:, None] - self.peaks_KM[None]) ** 2).sum(-1))

    def optimum(self, preference_K: Floats) -> float:
        """The weighted mean of squared distances to the peaks is least at the peaks' weighted mean."""
        return float((self.scores((preference_K @ self.peaks_KM)[None]) @ preference_K)[0])


@dataclass(frozen=True)
class Multimodal:
    """`Concave` with waves across it, in a direction of its own for each objective."""

    smooth: Concave
    waves_KM: Floats
    depth: float = 0.12

    @classmethod
    def drawn(cls, objectives: int, rng: Rng) -> Multimodal:
        directions_KM = rng.normal(size=(objectives, objectives))
        directions_KM -= directions_KM.mean(1, keepdims=True)  # along the simplex
        directions_KM /= np.linalg.norm(directions_KM, axis=1, keepdims=True)
        return cls(Concave.drawn(objectives, rng), 4 * np.pi * directions_KM)

    def scores(self, weights_WM: Floats) -> Floats:
        return np.asarray(self.smooth.scores(weights_WM) - self.depth * (1 - np.cos(weights_WM @ self.waves_KM.T)))

    def optimum(self, preference_K: Floats) -> float:
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
