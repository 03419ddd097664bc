"""Maximum likelihood of given answers, whoever gave them: supervised learning as one more update rule.

The loss is the mean over tokens of ``-log pi(y_t | x, y_<t)``, with the end token where the answer has one. A reward is
the weight of its row: with 1 for all rows the loss is plain cross-entropy, and NaN leaves a row out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Rollout
from emorl_bench.rl.learner import AdapterRule
from emorl_bench.rl.scst import ReinforceLearner, Weighted


@dataclass(frozen=True)
class Likelihood(AdapterRule):
    """Settings: those that every rule has."""

    learning_rate: float = 3.56e-3

    needs_behaviour_logprobs: ClassVar[bool] = False
    rewards_are_weights: ClassVar[bool] = True

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`."""
        return _LikelihoodLearner(self, policy, ledger, objectives)


class _LikelihoodLearner(ReinforceLearner[Likelihood]):
    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Weighted:
        if (rewards_B < 0).any():
            raise UserError(
                "update=likelihood: a reward is the weight of its answer here, not below 0; say reward=linear"
            )
        return Weighted(rollout, rewards_B.nan_to_num(0.0) / rollout.tokens)
