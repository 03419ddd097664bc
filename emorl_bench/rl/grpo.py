"""Group-relative policy optimisation, and its two forms for several objectives. It needs no value head.

- GRPO (DeepSeekMath 2402.03300, eq. 3): objectives are weighted and summed; the sum is centred in its group of samples
  and divided by its standard deviation there.
- GDPO (2601.05242): each objective is normalised in its group, then weighted and summed, then scaled over the batch.
- MO-GRPO (2509.22047): each objective is normalised in its group, then summed, and not scaled again.

Advantages are those of TRL 1.16 (sample standard deviation + 1e-4). Against the papers and TRL: weights sum to 1, also
in MO-GRPO, whose sum is K times ours. An objective that does not apply to a sample leaves its weight to the others,
where TRL counts it as 0. The clipped surrogate is that of PPO. The KL penalty, where asked for, is the papers'
estimator of the KL in the loss, not in the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Policy, Weighting
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.advantages import Scale, decoupled, scaled_advantages
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule, shuffled
from emorl_bench.rl.ppo import surrogate_loss
from emorl_bench.rl.update import Batch

Average = Literal["response", "token"]


@dataclass(frozen=True)
class Grpo(AdapterRule):
    """Settings. ``normalise``: normalise the weighted ``sum``, or ``each`` objective before it is weighted.

    ``scale``: the standard deviation that advantages are divided by. ``average``: every ``response`` counts alike, as
    in the paper, or every ``token`` (DAPO 2503.14476). At ``kl_coefficient`` 0 the base model makes no forward pass.
    """

    learning_rate: float = 3.78e-4
    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 1
    normalise: Literal["sum", "each"] = "sum"
    scale: Scale = "group"
    average: Average = "response"
    kl_coefficient: float = 0.02

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> AdapterLearner[Any, Any]:
        """See `core.protocols.UpdateRule.learner`."""
        return (_DecoupledLearner if self.normalise == "each" else _GrpoLearner)(self, policy, ledger, objectives)


def token_weights(mask_BT: Tensor, average: Average, whole_BT: Tensor) -> Tensor:
    """(B, T): the weight of each token in the mean over the responses, or over the tokens, of the whole minibatch.

    Args:
        mask_BT: the tokens of some rows of the minibatch.
        average: what the mean is over.
        whole_BT: the tokens of the whole minibatch.
    """
    if average == "token":
        return mask_BT / whole_BT.sum().clamp_min(1)
    return mask_BT / mask_BT.sum(1).clamp_min(1)[:, None] / whole_BT.any(1).sum().clamp_min(1)


def token_kl(logprobs_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """(B, T) ``q - ln q - 1`` with ``q = pi_ref / pi``; its mean under pi is the KL (2402.03300, eq. 4)."""
    log_ratio_BT = reference_BT - logprobs_BT
    return log_ratio_BT.exp() - log_ratio_BT - 1


@dataclass(frozen=True)
class Compared(Batch):
    """Advantages of the rows, and log-probabilities under the base model where there is a KL term."""

    advantages_B: Tensor
    reference_BT: Tensor | None


class _GrpoLearner(AdapterLearner[Grpo, Compared]):
    @property
    def uses_reference(self) -> bool:
        return self.rule.kl_coefficient != 0

    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Compared:
        advantages_B = scaled_advantages(rewards_B, rollout.group_size, self.rule.scale)
        metrics = {"advantage_std": advantages_B[has_reward_B].std(correction=int(has_reward_B.sum() > 1)).item()}
        if reference_BT is not None:
            kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
            metrics["kl"] = kl_B[has_reward_B].mean().item()
        return Compared(rollout, advantages_B, reference_BT, metrics=metrics)

    def minibatches(self, batch: Compared, rng: torch.Generator) -> Sequence[Compared]:
        return shuffled(batch, self.rule.epochs, self.rule.minibatches, rng)

    def loss(self, hidden_BTH: Tensor, part: Compared, minibatch: Compared) -> tuple[Tensor, Metrics]:
        rollout, clip = part.rollout, self.rule.clip
        logprobs_BT, old_BT = token_logprobs(self.policy, hidden_BTH, rollout), rollout.logprobs_BT
        loss_BT = rollout.weighted(surrogate_loss(logprobs_BT, old_BT, part.advantages_B[:, None], clip))
        if part.reference_BT is not None:
            loss_BT = loss_BT + self.rule.kl_coefficient * token_kl(logprobs_BT, part.reference_BT)
        whole_BT = minibatch.rollout.response_mask_BT
        weights_BT = token_weights(rollout.response_mask_BT, self.rule.average, whole_BT).to(old_BT)
        loss = (loss_BT * weights_BT).sum()
        outside_BT = ((logprobs_BT - old_BT).exp() - 1).abs() > clip
        return loss, {"loss": loss.item(), "clip_fraction": (outside_BT * weights_BT).sum().item()}


class _DecoupledLearner(_GrpoLearner):
    """Rewarded for each objective in units of its own standard deviation among a prompt's samples."""

    def rewards(self, scores_BK: Tensor, weighting: Weighting, group_size: int) -> Tensor:
        return weighting.weighted(decoupled(weighting.shaped(scores_BK), group_size))
