"""Where the sampler and the training pass disagree on the probability of a token: what updates do about it.

In bfloat16 the fused decode step and the training pass round in other places, so a ratio of probabilities is not 1
before any update (PPO's clip then acts on noise). The training pass therefore reads every rollout once more before an
update, without gradients; its log-probabilities replace those of the sampler:

- ``recompute``: the update is then that of samples from the training pass, and ignores that they were not.
- ``importance``: each token's gradient is also weighted by ``min(pi / pi_sampler, limit)``, truncated importance
  sampling (Espeholt 1802.01561, section 4.1, with one bound; Ionides 2008). It is exact up to the truncation for the
  token, and an approximation for the tokens before it.

In float32 and float64 the two agree but for rounding, and no such pass is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from emorl_bench.core.types import Correction, Metrics, Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.policies.together import hidden_together
from emorl_bench.rl.stacking import Pass

CLIP = 0.2  # the clip range of PPO (1707.06347), for rules without one


@torch.no_grad()
def policy_logprobs(passes: Sequence[Pass]) -> list[Tensor]:
    """(B, T) log-probabilities of each pass's rows under its own policy, by the operations of a training pass."""
    parts = [one.part.rollout for one in passes]
    hidden_MBTH = hidden_together([one.learner.policy for one in passes], parts)
    found = []
    for one, part, hidden_BTH in zip(passes, parts, hidden_MBTH, strict=True):
        found.append(token_logprobs(one.learner.policy, hidden_BTH[:, : part.response_ids_BT.shape[1]], part))
    return found


def corrected(rollout: Rollout, own_BT: Tensor, correction: Correction, clip: float = CLIP) -> tuple[Rollout, Metrics]:
    """The rollout with log-probabilities (B, T) of the training pass, and by how much those of its sampler differ.

    ``sampler_mismatch`` is the mean of ``|log pi - log pi_sampler|`` over tokens, in nats, ``sampler_mismatch_max`` the
    largest, and ``sampler_mismatch_clipped`` the share of tokens whose ratio lies outside ``1 +- clip``.
    """
    mask_BT = rollout.response_mask_BT
    gap_BT = (own_BT - rollout.logprobs_BT).masked_fill(~mask_BT, 0.0)
    gaps = gap_BT[mask_BT]
    metrics = {
        "sampler_mismatch": gaps.abs().mean().item(),
        "sampler_mismatch_max": gaps.abs().max().item(),
        "sampler_mismatch_clipped": ((gaps.exp() - 1).abs() > clip).float().mean().item(),
    }
    weights_BT = gap_BT.exp().clamp(max=correction.limit) if correction.weigh else None
    return replace(rollout, logprobs_BT=own_BT, importance_BT=weights_BT), metrics
