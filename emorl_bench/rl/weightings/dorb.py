"""DORB (Pasunuru et al. 2020; as run in 2403.13578): Exp3 draws the one objective that is the reward of a round.

A round lasts until the next validation. The bandit is then paid the mean gain, mean_k D_k (`moving.Gains`).

Against the release: a round lasts from one validation to the next, where it is ten steps there. The mean is weighted by
the preference. Gains are standardised and gamma is larger, as in `dynaopt`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.bandits import Exp3
from emorl_bench.rl.weightings.moving import Gains, MovingWeights, Paid, Payment, check_gamma, only


@dataclass(frozen=True)
class Dorb:
    """Settings. ``gamma``: exploration and step of the bandit. ``look_back`` and ``paid`` as in `dynaopt`."""

    gamma: float = 0.2
    look_back: int = 1
    paid: Paid = "standardised"

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`.

        Raises:
            UserError: a setting is out of its range.
        """
        bandit = Exp3(len(bench.objectives), check_gamma(self.gamma))
        return DrawnObjective(bench, preference, bandit, Gains(self.look_back), Payment(self.paid))


@dataclass
class DrawnObjective(MovingWeights):
    """All weight on one objective, which a bandit draws."""

    bandit: Exp3
    gains: Gains
    payment: Payment

    def move(self, validation_K: Tensor) -> None:
        """Pay the bandit for its latest draw, and let it draw again."""
        gain_K = self.gains(validation_K)
        if gain_K is not None and not math.isnan(gain := self.utility(gain_K)):
            self.bandit.learn(self.payment(gain))
        drawn = self.bandit.draw(validation_K.numpy(), self.rng())
        self.weights_K = only(drawn, len(self.weights_K))

    def remarks(self) -> Mapping[str, float]:
        """The bandit's probability of each objective."""
        probabilities = zip(self.bench.objectives, self.bandit.probabilities().tolist(), strict=True)
        return {f"weighting/probability/{name}": p for name, p in probabilities}
