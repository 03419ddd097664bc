"""Kullback-Leibler divergence to the reference policy, in nats per sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Rollout
from emorl_bench.models.readout import divergence
from emorl_bench.rl.fitting import by_parts


def sequence_kl(logprobs_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B,) single-sample estimate ``log pi(y) - log pi_ref(y)`` with y from pi; its mean is the KL (unbiased)."""
    return ((logprobs_BT - reference_BT) * mask_BT).sum(1)


@torch.no_grad()
def vocabulary_kl(policy: Policy, hidden_BTH: Tensor, reference_BTH: Tensor, temperature: float) -> Tensor:
    """(B, T) ``sum_v pi(v) (log pi(v) - log pi_ref(v))``: the exact KL of the next token at each position.

    Its sum over an answer has the same mean as `sequence_kl`. Its noise is that of the answer alone, and not of which
    token was drawn at each position. One row is computed at a time, or a part of a long one.
    """
    size = policy.memory.block_bytes
    rows = (
        divergence(policy.logits, own_TH, other_TH, temperature, size)
        for own_TH, other_TH in zip(hidden_BTH, reference_BTH, strict=True)
    )
    return torch.stack(list(rows))


@torch.no_grad()
def kl_to_reference(rollout: Rollout, reference: Policy, rows: int = 256) -> float:
    """Mean KL, in nats per sequence, of the sampler of ``rollout`` to ``reference``; the rollout must be sampled.

    Args:
        rollout: sampled responses with their log-probabilities.
        reference: usually the base model.
        rows: number of rows in one forward pass; fewer where memory runs out.
    """
    ranks, total = reference.ranks, 0.0
    divided = not ranks.in_step  # ranks in step must make equal numbers of passes, so each makes all
    mine = ranks.share(len(rollout.examples)) if divided else range(len(rollout.examples))

    def read(part: Sequence[int]) -> float:
        own = rollout.rows(part)
        return float(sequence_kl(own.logprobs_BT, reference.logprobs(own), own.response_mask_BT).sum())

    for low in range(mine.start, mine.stop, rows):
        for _, found in by_parts(range(low, min(low + rows, mine.stop)), read, reference):
            total += found
    return (sum(ranks.collect(total)) if divided else total) / len(rollout.examples)
