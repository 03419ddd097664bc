"""k-self-critical REINFORCE: the mean of a prompt's samples is the baseline (Rennie 1612.00563; EMORL 2505.02579).

Against the released code: the sampled ids themselves are trained on, and the end token's log-probability counts, unless
settings say otherwise. Dropout is off while sampling. The KL term, where asked for, is part of the reward, so that it
has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule, Rule
from emorl_bench.rl.trained_on import retokenized, without_end
from emorl_bench.rl.update import Batch


def scst_loss(logprobs_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """``-sum_i A_i sum_t log pi(y_t)``; masked tokens must have 0. Divide by the batch size for the mean."""
    return -(advantages_B * logprobs_BT.sum(1)).sum()


@dataclass(frozen=True)
class Scst(AdapterRule):
    """Settings. ``kl_coefficient`` is subtracted from the reward for each nat of ``log pi - log pi_ref``.

    At 0 the base model makes no pass during training; then only the report shows the KL. ``train_on`` and ``end_token``
    can restore what the release does (`rl.trained_on`). The KL is always that of the sampled tokens.
    """

    kl_coefficient: float = 0.02
    train_on: Literal["ids", "text"] = "ids"
    end_token: bool = True

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`."""
        return _ScstLearner(self, policy, ledger, objectives)

    def advantages(self, rewards_B: Tensor, group_size: int) -> Tensor:
        """(B,) rewards minus the mean of the prompt's samples."""
        return group_advantages(rewards_B, group_size)


@dataclass(frozen=True)
class Weighted(Batch):
    """``shares_B``: the factor of each row's log-probability in the loss: its advantage over the number of rows."""

    shares_B: Tensor


class ReinforceLearner(AdapterLearner[Rule, Weighted]):
    """A learner whose loss is `scst_loss` of the shares that its rule computes. It makes one step, on all rows."""

    def loss(self, hidden_BTH: Tensor, part: Weighted, minibatch: Weighted) -> tuple[Tensor, Metrics]:
        """See `AdapterLearner.loss`."""
        logprobs_BT = part.rollout.weighted(token_logprobs(self.policy, hidden_BTH, part.rollout))
        loss = scst_loss(logprobs_BT, part.shares_B)
        return loss, {"loss": loss.item()}


class _ScstLearner(ReinforceLearner[Scst]):
    @property
    def uses_reference(self) -> bool:
        return self.rule.kl_coefficient != 0

    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Weighted:
        rows, metrics = int(has_reward_B.sum()), dict[str, float]()
        if reference_BT is not None:
            kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
            rewards_B = rewards_B - self.rule.kl_coefficient * kl_B
            metrics["kl"] = kl_B[has_reward_B].mean().item()
        advantages_B = self.rule.advantages(rewards_B, rollout.group_size)
        metrics["advantage_std"] = advantages_B[has_reward_B].std(correction=int(rows > 1)).item()
        if self.rule.train_on == "text":
            rollout = retokenized(self.policy, rollout)
        if not self.rule.end_token:
            rollout = without_end(self.policy, rollout)
        return Weighted(rollout, advantages_B / rows, metrics=metrics)
