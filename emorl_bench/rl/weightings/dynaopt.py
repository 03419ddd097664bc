"""DynaOpt (2403.13578): a bandit moves the weights of one weighted sum.

After each validation an outer bandit with K + 1 arms is paid the mean gain, mean_k D_k (`moving.Gains`), for its latest
draw, and draws again. Arm i of the first K gives weight i one inner Exp3 update of reward 1; the last arm leaves the
weights as they are. The weights are w / sum w. Both bandits are Exp3.

Against the release: nothing is drawn before the second validation. The gain is weighted by the preference, and so are
the weights; with a uniform preference this is the published method. A round lasts from one validation to the next,
where it is ten steps there. Gains are standardised before they pay (`moving.Payment`), and gamma is larger, because
otherwise no weight moves at all. ``paid: plain`` and ``gamma: 0.07`` are the release's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.bandits import Bandit, Exp3
from emorl_bench.rl.weightings.moving import Gains, MovingWeights, Paid, Payment, check_gamma, scaled


@dataclass(frozen=True)
class DynaOpt:
    """Settings. ``gamma``: exploration and step of both bandits. ``paid``: what a gain pays (`moving.Payment`).

    ``look_back``: number of validations that a gain is measured against.
    """

    gamma: float = 0.4
    look_back: int = 1
    paid: Paid = "standardised"

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`.

        Raises:
            UserError: a setting is out of its range.
        """
        gamma, arms = check_gamma(self.gamma), len(bench.objectives)
        return NudgedWeights(
            bench, preference, Exp3(arms + 1, gamma), Exp3(arms, gamma), Gains(self.look_back), Payment(self.paid)
        )


@dataclass
class NudgedWeights(MovingWeights):
    """Weights that an outer bandit moves one at a time.

    ``credited``: the one objective whose gain pays the outer bandit; ``None``: all of them.
    """

    outer: Bandit
    inner: Exp3
    gains: Gains
    payment: Payment
    credited: int | None = None
    drawn: int | None = None  # this round's arm

    def move(self, validation_K: Tensor) -> None:
        """Pay the outer bandit for its latest draw, let it draw again, and update the weight that it has drawn."""
        gain_K = self.gains(validation_K)
        if gain_K is None:
            return
        gain = self.utility(gain_K) if self.credited is None else float(gain_K[self.credited])
        if self.drawn is not None and not math.isnan(gain):
            self.outer.learn(self.payment(gain))
        context_F = np.concatenate([[1.0], self.weights_K.numpy(), gain_K.nan_to_num(0.0).numpy()])
        self.drawn = self.outer.draw(context_F, self.rng())
        if self.drawn < self.inner.arms:
            self.inner.pay(self.drawn, 1.0)
            self.weights_K = scaled(self.preference_K, self.inner.shares())

    def remarks(self) -> Mapping[str, float]:
        """The arm of this round, and the probabilities of the arms where the outer bandit is Exp3."""
        drawn = {} if self.drawn is None else {"weighting/arm": float(self.drawn)}
        if not isinstance(self.outer, Exp3):
            return drawn
        names = (*self.bench.objectives, "none")
        return drawn | {f"weighting/probability/{n}": p for n, p in zip(names, self.outer.probabilities(), strict=True)}
