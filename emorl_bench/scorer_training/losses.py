"""What the nets are trained to minimise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# margins by (better, worse), as places in a group of five; algorithms of Min et al., EMNLP 2022
HQ, MQ, LQ, MISMATCH = (0,), (1,), (2, 3), (4,)
MARGINS = ((HQ, MQ, 0.5), (MQ, LQ, 0.5), (HQ, LQ, 1.0), (HQ, MISMATCH, 1.0), (MQ, MISMATCH, 0.5))


def margin_ranking(scores_P5: Tensor) -> Tensor:
    """PAIR's loss of scores of [hq, mq, lq, lq, mismatch], five of each prompt: a scalar.

    Sum over the pairs of kinds of mean max(0, d - (better - worse)); each response meets its own prompt's others (the
    released code repeats rows so that responses of different prompts meet).
    """
    total = scores_P5.new_zeros(())
    for better, worse, margin in MARGINS:
        difference = scores_P5[:, list(better), None] - scores_P5[:, None, list(worse)]
        total = total + F.relu(margin - difference).mean()
    return total


def cumulative(logits_BO: Tensor, level_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy of P(level > k) for all k, weighted by row: a scalar. ``level_B`` is 0 .. O."""
    above_BO = (level_B[:, None] > torch.arange(logits_BO.shape[1], device=level_B.device)).to(logits_BO.dtype)
    loss_BO = F.binary_cross_entropy_with_logits(logits_BO, above_BO, reduction="none")
    return (loss_BO.mean(1) * weight_B).sum() / weight_B.sum()
