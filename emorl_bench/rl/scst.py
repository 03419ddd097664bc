"""k-self-critical REINFORCE: the mean of a prompt's samples is the baseline (Rennie 1612.00563; EMORL 2505.02579).

Against the released code: the sampled ids themselves are trained on, the end token's log-probability counts, dropout is
off while sampling, and the KL term, where asked for, has a gradient: it is part of the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.optimiser import Optimiser, numbered


def scst_loss(logprobs_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """``-sum_i A_i sum_t log pi(y_t)``; masked tokens must carry 0. Divide by the batch size for the mean."""
    return -(advantages_B * logprobs_BT.sum(1)).sum()


@dataclass(frozen=True)
class Scst:
    """Settings of the rule. ``kl_coefficient`` subtracts that much reward per nat of ``log pi - log pi_ref``."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 2.0
    kl_coefficient: float = 0.0
    micro_batch: int | None = None  # rows per backward pass; gradients accumulate

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        return _ScstLearner(self, policy, ledger)


class _ScstLearner:
    def __init__(self, rule: Scst, policy: Policy, ledger: Ledger) -> None:
        self.rule, self.policy, self.ledger = rule, policy, ledger
        self.optimiser = Optimiser(
            numbered(policy.parameters(), "adapter."), rule.learning_rate, rule.weight_decay, rule.clip_norm
        )

    def step(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Metrics:
        with self.ledger.metered("update") as call:
            call.tokens = rollout.tokens
            metrics = self._step(rollout, rewards_B.to(rollout.logprobs_BT.device))
        self.ledger.current.optimiser_steps += 1
        self.ledger.current.trained_tokens += rollout.tokens
        return metrics

    def _step(self, rollout: Rollout, rewards_B: Tensor) -> Metrics:
        with torch.no_grad():
            reference_BT = self.policy.reference().logprobs(rollout)
        kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
        advantages_B = group_advantages(rewards_B - self.rule.kl_coefficient * kl_B, rollout.group_size)
        rows, total = len(rollout.examples), 0.0
        micro = self.rule.micro_batch or rows
        for low in range(0, rows, micro):
            picks = range(low, min(low + micro, rows))
            loss = scst_loss(self.policy.logprobs(rollout.rows(picks)), advantages_B[low : picks.stop]) / rows
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        norm = self.optimiser.step()
        return {"loss": total, "kl": kl_B.mean().item(), "grad_norm": norm, "advantage_std": advantages_B.std().item()}

    def state_dict(self) -> dict[str, Tensor]:
        return self.optimiser.state_tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.optimiser.load_state_tensors(state)
