"""SAW (2606.07705): the weight of an objective is how much its scores vary in the batch, relative to their mean.

``cv_k = std_k / |mean_k|`` over the batch, and ``w_k = cv_k / sum cv``: where all answers serve an objective equally
well, there is nothing left to learn. With update=scst or grpo it weighs rewards (its GRPO form), with gdpo normalised
rewards (its GDPO form). Against the release: it is written for two rewards, and shifts one of them, which may be
negative, before the mean is taken; ours are between 0 and 1. Its weights sum to the number of objectives, ours to 1.
Ours are multiplied by the preference first; with a uniform preference this is the published method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.moving import MovingWeights, scaled

EPSILON = 1e-8


@dataclass(frozen=True)
class Saw:
    """It has no settings."""

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """See `WeightingRule.start`."""
        return BatchWeights(bench, preference)


class BatchWeights(MovingWeights):
    """Weights that follow each batch. Before the first batch they are NaN: there are none, and none is logged."""

    def __post_init__(self) -> None:
        """There are no weights yet."""
        self.weights_K = self.preference_K * torch.nan

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """(B, K) shaped scores; the weights are set by the variation of the scores (B, K)."""
        self.weights_K = scaled(self.preference_K, variation(scores_BK.double()).numpy())
        return super().shaped(scores_BK)


def variation(scores_BK: Tensor) -> Tensor:
    """(K,) coefficient of variation over the rows that an objective applies to; 0 for fewer than two rows."""
    applies_BK = ~scores_BK.isnan()
    count_K = applies_BK.sum(0)
    mean_K = scores_BK.nanmean(0)
    squares_K = ((scores_BK - mean_K) ** 2).nan_to_num(0.0).sum(0)
    deviation_K = (squares_K / (count_K - 1).clamp_min(1)).sqrt()
    return torch.where(count_K > 1, deviation_K / (mean_K.abs() + EPSILON), 0.0)
