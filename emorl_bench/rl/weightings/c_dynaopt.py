"""C-DynaOpt (2403.13578): DynaOpt whose outer bandit sees the weights and the gains before it draws.

The bandit is Vowpal Wabbit where it is installed, as in the release, and LinUCB in NumPy otherwise. The record says
which (``weighting/vowpal_wabbit``). Against the release: an arm costs 1 - mean_k D_k, standardised as in `dynaopt`;
there it is 1 - D_0, the gain of the first scorer alone (``credit: first``). LinUCB (Li et al. 2010) is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.bandits import Exp3, LinUcb
from emorl_bench.rl.weightings.dynaopt import NudgedWeights
from emorl_bench.rl.weightings.moving import Gains, Paid, Payment, check_gamma
from emorl_bench.rl.weightings.vowpal_wabbit import VowpalWabbit, is_installed


@dataclass(frozen=True)
class CDynaOpt:
    """Settings. ``alpha``: width of LinUCB's bounds, in units of what a gain pays; ``gamma``: step of the weights.

    ``look_back`` and ``paid`` as in `dynaopt`.
    """

    bandit: Literal["auto", "vowpal_wabbit", "linucb"] = "auto"
    credit: Literal["mean", "first"] = "mean"
    alpha: float = 1.0
    gamma: float = 0.2
    look_back: int = 1
    paid: Paid = "standardised"

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`.

        Raises:
            UserError: a setting is out of its range, or Vowpal Wabbit is asked for and not installed.
        """
        if self.bandit == "vowpal_wabbit" and not is_installed():
            raise UserError(
                "method.weighting.bandit=vowpal_wabbit needs the extra: "
                'pip install -c constraints.txt -e ".[vw]"; or say method.weighting.bandit=linucb'
            )
        if self.alpha < 0:
            raise UserError(f"method.weighting.alpha={self.alpha}: must be 0 or more")
        arms = len(bench.objectives)
        wabbit = self.bandit == "vowpal_wabbit" or (self.bandit == "auto" and is_installed())
        return ContextualWeights(
            bench,
            preference,
            VowpalWabbit(arms + 1) if wabbit else LinUcb(arms + 1, 1 + 2 * arms, self.alpha),
            Exp3(arms, check_gamma(self.gamma)),
            Gains(self.look_back),
            Payment(self.paid),
            credited=0 if self.credit == "first" else None,
        )


class ContextualWeights(NudgedWeights):
    """The weights of DynaOpt; the record also says which bandit moves them."""

    def remarks(self) -> Mapping[str, float]:
        """See `MovingWeights.remarks`."""
        return {**super().remarks(), "weighting/vowpal_wabbit": float(isinstance(self.outer, VowpalWabbit))}
