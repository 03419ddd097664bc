"""Bandits: they choose among arms, and learn from what each choice has paid. They know nothing of language models.

A bandit sees a context when it draws, and is told the reward of its latest draw. It is given its random numbers, so the
same draws and rewards bring it to the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Bandit(Protocol):
    """Chooses among arms. Context vectors have F features."""

    def draw(self, context_F: Floats, rng: torch.Generator) -> int:
        """Choose an arm in this context (F,)."""

    def learn(self, reward: float) -> None:
        """Learn from the reward that the latest draw has paid."""


@dataclass
class Exp3:
    """Exponential weights for exploration and exploitation (Auer et al. 2002; as in DynaOpt 2403.13578).

    ``p_i = (1 - gamma) w_i / sum w + gamma / A``; after reward r on arm c, ``w_c *= exp(r / p_c * gamma / A)``. Weights
    are kept as logarithms, so they neither overflow nor vanish.
    """

    arms: int
    gamma: float
    drawn: int = 0
    log_weights_A: Floats = field(init=False)

    def __post_init__(self) -> None:
        """All weights are 1."""
        self.log_weights_A = np.zeros(self.arms)

    def shares(self) -> Floats:
        """(A,) the weights, divided by their sum."""
        weights_A = np.exp(self.log_weights_A - self.log_weights_A.max())
        return np.asarray(weights_A / weights_A.sum())

    def probabilities(self) -> Floats:
        """(A,) the probability of each arm."""
        return np.asarray((1 - self.gamma) * self.shares() + self.gamma / self.arms)

    def draw(self, context_F: Floats, rng: torch.Generator) -> int:
        """Draw an arm by its probability. Exp3 does not use the context."""
        self.drawn = sampled(self.probabilities(), rng)
        return self.drawn

    def learn(self, reward: float) -> None:
        """See `Bandit.learn`."""
        self.pay(self.drawn, reward)

    def pay(self, arm: int, reward: float) -> None:
        """Update the weight of an arm that has paid this reward."""
        self.log_weights_A[arm] += reward / self.probabilities()[arm] * self.gamma / self.arms


@dataclass
class LinUcb:
    """A ridge regression of reward on context for each arm; the highest upper bound is chosen (Li et al. 2010).

    This is the disjoint LinUCB: ``theta' x + alpha sqrt(x' A^-1 x)`` with ``A = 1 + sum x x'``. Among equal bounds one
    is drawn at random.
    """

    arms: int
    features: int
    alpha: float
    drawn: int = 0
    context_F: Floats = field(init=False)
    moments_AFF: Floats = field(init=False)  # A
    targets_AF: Floats = field(init=False)  # sum of reward times x

    def __post_init__(self) -> None:
        """Nothing is observed yet."""
        self.context_F = np.zeros(self.features)
        self.moments_AFF = np.tile(np.eye(self.features), (self.arms, 1, 1))
        self.targets_AF = np.zeros((self.arms, self.features))

    def bounds(self, context_F: Floats) -> Floats:
        """(A,) the upper bound of each arm's reward in this context."""
        solved_AF = np.linalg.inv(self.moments_AFF) @ context_F
        return np.asarray((self.targets_AF * solved_AF).sum(1) + self.alpha * np.sqrt(solved_AF @ context_F))

    def draw(self, context_F: Floats, rng: torch.Generator) -> int:
        """Choose the arm with the highest bound in this context (F,)."""
        bounds_A = self.bounds(context_F)
        best_A = np.isclose(bounds_A, bounds_A.max(), rtol=0, atol=1e-12).astype(np.float64)
        self.drawn, self.context_F = sampled(best_A, rng), context_F
        return self.drawn

    def learn(self, reward: float) -> None:
        """See `Bandit.learn`."""
        self.moments_AFF[self.drawn] += np.outer(self.context_F, self.context_F)
        self.targets_AF[self.drawn] += reward * self.context_F


def sampled(weights_A: Floats, rng: torch.Generator) -> int:
    """An index, drawn with a probability proportional to its weight."""
    return int(torch.multinomial(torch.from_numpy(weights_A), 1, generator=rng))
