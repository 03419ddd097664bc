"""Hypervolume-guided weighting (2509.11452, sec. 4): a fixed weighted sum, times what the last validation has won.

``reward = (0.5 + 1.5 tanh dHV) sum_k w_k s_k``. dHV is the volume that the latest mean validation scores add to those
of all validations before them, above the first one (the reference point of the release).

The factor is common to all answers, so it changes no preference between them: it is a step size, which Adam evens
out where it is steady and which group normalisation cancels; against a KL penalty it does count. Scores between
0 and 1 make it lie near 0.5 most of the time. Against the release: the hypervolume is exact for points that are below
the reference in some objective; the factor is 1 until a second validation; ``reference`` may be given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import moocore
import numpy as np
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.bandits import Floats
from emorl_bench.rl.weightings.moving import MovingWeights


@dataclass(frozen=True)
class HvGuided:
    """``least``, ``most``: the factor where nothing and where very much was won; ``reference``: None is the first."""

    least: float = 0.5
    most: float = 2.0
    reference: Sequence[float] | None = None

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        if not 0 <= self.least <= self.most:
            raise UserError(
                f"method.weighting.least={self.least}: must be 0 or more, and no more than most={self.most}"
            )
        if self.reference is not None and len(self.reference) != len(bench.objectives):
            raise UserError(
                f"method.weighting.reference={list(self.reference)}: needs {len(bench.objectives)} numbers, "
                f"one each for {', '.join(bench.objectives)}; or null"
            )
        given = None if self.reference is None else np.asarray(self.reference, dtype=np.float64)
        return ScaledWeights(bench, preference, self.least, self.most, given)


@dataclass
class ScaledWeights(MovingWeights):
    """A validation in which an objective applied to nothing has no place among the others, and moves nothing."""

    least: float
    most: float
    reference_K: Floats | None
    points: list[Floats] = field(default_factory=list)
    factor: float = 1.0

    def move(self, validation_K: Tensor) -> None:
        if validation_K.isnan().any():
            return
        point_K = validation_K.numpy()
        if self.reference_K is None:
            self.reference_K = point_K
            return
        won = self._volume([*self.points, point_K]) - self._volume(self.points)
        self.points.append(point_K)
        self.factor = self.least + (self.most - self.least) * math.tanh(max(won, 0.0))
        self.weights_K = self.factor * self.preference_K

    def _volume(self, points: Sequence[Floats]) -> float:
        return float(moocore.hypervolume(np.stack(points), ref=self.reference_K, maximise=True)) if points else 0.0

    def remarks(self) -> Mapping[str, float]:
        return {"weighting/scale": self.factor}
