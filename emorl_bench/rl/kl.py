"""Kullback-Leibler divergence to the reference policy, in nats per sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Rollout


def sequence_kl(logprobs_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B,) single-sample estimate ``log pi(y) - log pi_ref(y)`` with y from pi; its mean is the KL (unbiased)."""
    return ((logprobs_BT - reference_BT) * mask_BT).sum(1)


@torch.no_grad()
def vocabulary_kl(policy: Policy, hidden_BTH: Tensor, reference_BTH: Tensor, temperature: float) -> Tensor:
    """(B, T) ``sum_v pi(v) (log pi(v) - log pi_ref(v))``: the exact KL of the next token at each position.

    Its sum over an answer has the same mean as `sequence_kl`. Its noise is that of the answer alone, and not of which
    token was drawn at each position. One row is computed at a time, so that the distributions of one row are in memory.
    """
    rows = []
    for hidden_TH, other_TH in zip(hidden_BTH, reference_BTH, strict=True):
        own_TV, base_TV = (
            (logits if logits.dtype == torch.float64 else logits.float()).div(temperature).log_softmax(-1)
            for logits in (policy.logits(hidden_TH), policy.logits(other_TH))
        )
        rows.append((own_TV.exp() * (own_TV - base_TV)).sum(-1))
    return torch.stack(rows)


@torch.no_grad()
def kl_to_reference(rollout: Rollout, reference: Policy, rows: int = 256) -> float:
    """Mean KL, in nats per sequence, of the sampler of ``rollout`` to ``reference``; the rollout must be sampled.

    Args:
        rollout: sampled responses with their log-probabilities.
        reference: usually the base model.
        rows: number of rows in one forward pass.
    """
    ranks, total = reference.ranks, 0.0
    divided = not ranks.in_step  # ranks in step must make equal numbers of passes, so each makes all
    mine = ranks.share(len(rollout.examples)) if divided else range(len(rollout.examples))
    for low in range(mine.start, mine.stop, rows):
        part = rollout.rows(range(low, min(low + rows, mine.stop)))
        total += float(sequence_kl(part.logprobs_BT, reference.logprobs(part), part.response_mask_BT).sum())
    return (sum(ranks.collect(total)) if divided else total) / len(rollout.examples)
