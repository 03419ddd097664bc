"""Round (the alternating baseline of 2403.13578): each objective in turn is the reward until the next validation.

Against the release: a round lasts from one validation to the next, where it is ten steps there; objectives that the
preference gives no weight have no turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.moving import MovingWeights, only


@dataclass(frozen=True)
class RoundRobin:
    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        return EachInTurn(bench, preference)


class EachInTurn(MovingWeights):
    def move(self, validation_K: Tensor) -> None:
        wanted = [k for k, weight in enumerate(self.preference.weights) if weight > 0]
        self.weights_K = only(wanted[(self.rounds - 1) % len(wanted)], len(self.preference.weights))
