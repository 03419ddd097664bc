"""How K scores become one reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import weighted_mean
from emorl_bench.core.protocols import Bench, Weighting

LOG_FLOOR = 1e-4  # EMORL's release clips scores to [1e-4, 1 - 1e-4] before the logarithm


@dataclass(frozen=True)
class FixedWeights(Weighting):
    """``R = sum_k w_k f(s_k)``, where f is the identity or EMORL's clipped logarithm; ``weights`` sum to 1.

    The sum is over the objectives that apply, with their weights scaled to sum to 1; it is NaN where none applies.
    """

    weights: tuple[float, ...]
    shape: str = "linear"

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """(B, K): f of each score."""
        return scores_BK.clamp(LOG_FLOOR, 1 - LOG_FLOOR).log() if self.shape == "log" else scores_BK

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        """(B,): the weighted sum of shaped scores (B, K)."""
        return weighted_mean(shaped_BK, torch.tensor(self.weights, dtype=shaped_BK.dtype))

    def utility(self, scores_K: Tensor) -> float:
        """The weighted mean score, by which checkpoints are chosen and convergence is judged."""
        return float(weighted_mean(scores_K.double(), torch.tensor(self.weights, dtype=torch.float64)))


class WeightingRule(Protocol):
    """The settings of a weighting whose weights change, from the configuration."""

    def start(self, bench: Bench, preference: FixedWeights) -> Weighting:
        """A new weighting, for one run. ``preference``: the weights of the objectives that it serves."""


def one_hot(k: int, of: int, shape: str) -> FixedWeights:
    """All weight on objective ``k`` of ``of`` objectives."""
    return FixedWeights(tuple(float(i == k) for i in range(of)), shape)


def fixed_weights(weights: Sequence[float] | None, objectives: Sequence[str], shape: str) -> FixedWeights:
    """The weights that a user has given, or uniform weights.

    Raises:
        UserError: there is not one weight for each objective, one is negative, or their sum is not 1.
    """
    if weights is None:
        return FixedWeights((1 / len(objectives),) * len(objectives), shape)
    if len(weights) != len(objectives) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise UserError(
            f"method.weights={list(weights)}: needs {len(objectives)} non-negative numbers that sum to 1, "
            f"one each for {', '.join(objectives)}"
        )
    return FixedWeights(tuple(weights), shape)
