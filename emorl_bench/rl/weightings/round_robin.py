"""Round robin (the alternating baseline of 2403.13578): each objective in turn is the reward until the next validation.

Against the release: a round lasts from one validation to the next, where it is ten steps there. An objective to which
the preference gives no weight has no turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.moving import MovingWeights, only


@dataclass(frozen=True)
class RoundRobin:
    """It has no settings."""

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`."""
        return EachInTurn(bench, preference)


class EachInTurn(MovingWeights):
    """All weight on one objective, each in turn."""

    def move(self, validation_K: Tensor) -> None:
        """Give the weight to the next objective, whatever the validation (K,)."""
        wanted = [k for k, weight in enumerate(self.preference.weights) if weight > 0]
        self.weights_K = only(wanted[(self.rounds - 1) % len(wanted)], len(self.preference.weights))
