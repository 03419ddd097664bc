"""Rewards in units of all rewards that a learner has had so far.

This is the running normalisation of TRL's first PPO and of CORY's release (``use_score_scaling``, ``use_score_norm``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

RewardScale = Literal["plain", "scaled", "normalised"]

FLOOR = torch.finfo(torch.float32).eps  # added to the deviation, as the release does


@dataclass
class RunningMoments:
    """Mean and sample standard deviation of all values so far, batch by batch (Chan, Golub & LeVeque 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    @property
    def deviation(self) -> float:
        """The standard deviation; 1 for fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 1.0

    def add(self, values_N: Tensor) -> None:
        """Add a batch of values (N,)."""
        values_N = values_N.double()
        count, mean = float(len(values_N)), values_N.mean().item()
        away, total = mean - self.mean, self.count + count
        self.squares += ((values_N - mean) ** 2).sum().item() + away**2 * self.count * count / total
        self.mean += away * count / total
        self.count = total

    def scaled(self, rewards_B: Tensor, scale: RewardScale) -> Tensor:
        """(B,) ``r / s`` or ``(r - m) / s`` with the mean m and the deviation s of the values so far; NaN stays."""
        if scale == "plain":
            return rewards_B
        centre = self.mean if scale == "normalised" else 0.0
        return (rewards_B - centre) / (self.deviation + FLOOR)

    def state(self) -> Tensor:
        """(3,) float64: all that `of` needs."""
        return torch.tensor([self.count, self.mean, self.squares], dtype=torch.float64)

    @classmethod
    def of(cls, state: Tensor) -> RunningMoments:
        """The moments whose `state` was this."""
        return cls(*state.double().tolist())
