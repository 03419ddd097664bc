"""k-self-critical REINFORCE: the mean of a prompt's samples is the baseline (Rennie 1612.00563; EMORL 2505.02579).

Against the released code: the sampled ids themselves are trained on and the end token's log-probability counts, unless
settings say otherwise; dropout is off while sampling, and the KL term, where asked for, has a gradient: it is part of
the reward.
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
    """``-sum_i A_i sum_t log pi(y_t)``; masked tokens must carry 0. Divide by the batch size for the mean."""
    return -(advantages_B * logprobs_BT.sum(1)).sum()


@dataclass(frozen=True)
class Scst(AdapterRule):
    """Settings of the rule. ``kl_coefficient`` subtracts that much reward per nat of ``log pi - log pi_ref``.

    At 0 the base model makes no pass during training: KL is then known from the report alone.
    ``train_on`` and ``end_token`` bring back what the release does (`rl.trained_on`); KL is of what was sampled.
    """

    kl_coefficient: float = 0.02
    train_on: Literal["ids", "text"] = "ids"
    end_token: bool = True

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        return _ScstLearner(self, policy, ledger, objectives)

    def advantages(self, rewards_B: Tensor, group_size: int) -> Tensor:
        return group_advantages(rewards_B, group_size)


@dataclass(frozen=True)
class Weighted(Batch):
    """``shares_B``: what each row's log-probability is worth in the loss, advantages by the number of rows."""

    shares_B: Tensor


class ReinforceLearner(AdapterLearner[Rule, Weighted]):
    """A learner whose loss is `scst_loss` of whatever shares its rule works out; one step on all rows."""

    def loss(self, hidden_BTH: Tensor, part: Weighted, minibatch: Weighted) -> tuple[Tensor, Metrics]:
        loss = scst_loss(token_logprobs(self.policy.logits(hidden_BTH), part.rollout), part.shares_B)
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
