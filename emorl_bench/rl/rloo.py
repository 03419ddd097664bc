"""REINFORCE leave-one-out: the mean of a prompt's other samples is the baseline (Ahmadian 2402.14740; Kool 2019).

The baseline does not depend on the sample that it is subtracted from. So the gradient is unbiased: it is n/(n-1) times
that of k-SCST. The KL penalty, where asked for, is part of the reward, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from emorl_bench.rl.advantages import leave_one_out
from emorl_bench.rl.scst import Scst


@dataclass(frozen=True)
class Rloo(Scst):
    """Settings, which are those of `Scst`."""

    def advantages(self, rewards_B: Tensor, group_size: int) -> Tensor:
        """(B,) rewards minus the mean of the other samples of the prompt."""
        return leave_one_out(rewards_B, group_size)
