"""Weights drawn at random at each validation: the control for every weighting that claims to learn.

The weights are the preference times a draw from Dirichlet(1), scaled to sum 1. They move as often as those of
`dynaopt`, without any knowledge. This is no published method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.moving import MovingWeights, scaled


@dataclass(frozen=True)
class RandomWeights:
    """It has no settings."""

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`."""
        return DrawnWeights(bench, preference)


class DrawnWeights(MovingWeights):
    """Weights that are drawn anew at each validation."""

    def move(self, validation_K: Tensor) -> None:
        """Draw new weights, whatever the validation (K,)."""
        # Exponential draws that are divided by their sum are Dirichlet(1).
        draw_K = -torch.rand(len(validation_K), generator=self.rng(), dtype=torch.float64).clamp_min(1e-12).log()
        self.weights_K = scaled(self.preference_K, draw_K.numpy())
