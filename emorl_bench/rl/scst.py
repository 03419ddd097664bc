"""k-self-critical REINFORCE: the mean of a prompt's samples is the baseline (Rennie 1612.00563; EMORL 2505.02579).

Against the released code: the sampled ids themselves are trained on and the end token's log-probability counts, unless
settings say otherwise; dropout is off while sampling, and the KL term, where asked for, has a gradient: it is part of
the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import ForwardBackward, Learner, Policy, Update
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.bank import token_logprobs
from emorl_bench.rl.advantages import group_advantages, silenced
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.lockstep import Lockstep
from emorl_bench.rl.micro_batches import micro_batches, reference_logprobs
from emorl_bench.rl.optimiser import Optimiser, numbered
from emorl_bench.rl.trained_on import respelt, without_end


def scst_loss(logprobs_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """``-sum_i A_i sum_t log pi(y_t)``; masked tokens must carry 0. Divide by the batch size for the mean."""
    return -(advantages_B * logprobs_BT.sum(1)).sum()


@dataclass(frozen=True)
class Scst:
    """Settings of the rule. ``kl_coefficient`` subtracts that much reward per nat of ``log pi - log pi_ref``.

    At 0 the base model makes no pass during training: KL is then known from the report alone.
    ``train_on`` and ``end_token`` bring back what the release does (`rl.trained_on`); KL is of what was sampled.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 2.0
    kl_coefficient: float = 0.0
    train_on: Literal["ids", "text"] = "ids"
    end_token: bool = True
    micro_batch: int | None = None  # rows per backward pass; gradients accumulate

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        return _ScstLearner(self, policy, ledger)

    def advantages(self, rewards_B: Tensor, group_size: int) -> Tensor:
        return group_advantages(rewards_B, group_size)


class _ScstLearner:
    def __init__(self, rule: Scst, policy: Policy, ledger: Ledger) -> None:
        self.rule, self.policy, self.ledger = rule, policy, ledger
        self.optimiser = Optimiser(
            numbered(policy.parameters(), "adapter."),
            rule.learning_rate,
            rule.weight_decay,
            rule.clip_norm,
            policy.ranks,
        )

    def update(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Update:
        teaches_B = ~rewards_B.isnan().to(rollout.logprobs_BT.device)
        if not teaches_B.any():
            return {}
        rollout = silenced(rollout, teaches_B)
        micro_batch, rows, total = self.rule.micro_batch, int(teaches_B.sum()), 0.0
        rewards_B = rewards_B.to(teaches_B.device)
        metrics: dict[str, float] = {}
        if self.rule.kl_coefficient:
            reference_BT = yield from reference_logprobs(self.policy, rollout, micro_batch)
            kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
            rewards_B = rewards_B - self.rule.kl_coefficient * kl_B
            metrics["kl"] = kl_B[teaches_B].mean().item()
        advantages_B = self.rule.advantages(rewards_B, rollout.group_size)
        if self.rule.train_on == "text":
            rollout = respelt(self.policy, rollout)
        if not self.rule.end_token:
            rollout = without_end(self.policy, rollout)
        for picks in micro_batches(rollout, micro_batch, ranks=self.policy.ranks):
            part = yield self._gradient(rollout.rows(picks), advantages_B[picks] / rows)
            total += part["loss"]
        metrics |= self.policy.ranks.totals({"loss": total})
        metrics["grad_norm"] = self.optimiser.step()
        metrics["advantage_std"] = advantages_B[teaches_B].std(correction=int(rows > 1)).item()
        self.ledger.current.optimiser_steps += 1
        self.ledger.current.trained_tokens += rollout.tokens
        return metrics

    def _gradient(self, part: Rollout, advantages_B: Tensor) -> ForwardBackward:
        def loss(hidden_BTH: Tensor) -> tuple[Tensor, Metrics]:
            logprobs_BT = token_logprobs(self.policy.logits(hidden_BTH), part)
            loss = scst_loss(logprobs_BT, advantages_B)
            return loss, {"loss": loss.item()}

        return ForwardBackward(part, loss)

    def step(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Metrics:
        return Lockstep(self.ledger)([self], [rollout], [rewards_B], [rng])[0]

    def state_dict(self) -> dict[str, Tensor]:
        return self.optimiser.state_tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.optimiser.load_state_tensors(state)
