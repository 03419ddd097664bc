"""Hypervolume-guided weighting (2509.11452, sec. 4): a fixed weighted sum, multiplied by a factor of progress.

``reward = (0.5 + 1.5 tanh dHV) sum_k w_k s_k``. dHV is the volume that the latest mean validation scores add to the
volume of all earlier validations. Volumes are measured above the first validation (the release's reference point).

All answers have the same factor, so it changes no preference between them: it is a step size. Adam cancels a steady
factor, and normalisation in groups cancels any. Against a KL penalty it does count. With scores between 0 and 1 it is
near 0.5 most of the time. Against the release: the hypervolume is exact also for points that are below the reference in
some objective; the factor is 1 until the second validation; ``reference`` may be given.
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
    """Settings. ``least`` and ``most``: the factor where nothing is gained, and where very much is gained.

    ``reference``: the reference point (K,); ``None`` is the first validation.
    """

    least: float = 0.5
    most: float = 2.0
    reference: Sequence[float] | None = None

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`.

        Raises:
            UserError: ``least`` and ``most`` are out of order, or ``reference`` has not K numbers.
        """
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
    """The preference, multiplied by a factor.

    A validation in which an objective applied to nothing is left out: it has no volume, and moves nothing.
    """

    least: float
    most: float
    reference_K: Floats | None
    points: list[Floats] = field(default_factory=list)
    factor: float = 1.0

    def move(self, validation_K: Tensor) -> None:
        """Set the factor by the volume that this validation (K,) adds."""
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
        """The factor."""
        return {"weighting/scale": self.factor}
