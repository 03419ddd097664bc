"""One policy for all preferences: how they are drawn in training, and at which ones it is validated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from emorl_bench.core.masked import mean_scores
from emorl_bench.core.protocols import Sampler
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.weighting import FixedWeights, fixed_weights, one_hot


def drawn(count: int, objectives: int, rng: torch.Generator) -> Tensor:
    """(W, K) from Dirichlet(1): exponential numbers, brought to sum 1, lie evenly on the simplex."""
    parts_WK = torch.empty(count, objectives, dtype=torch.float64).exponential_(generator=rng)
    return parts_WK / parts_WK.sum(1, keepdim=True)


class PreferenceRun(TrainingRun, ABC):
    """The training of one policy that answers every preference, `TrainingRun.name` its name.

    Each corner of the simplex and its centre are decoded greedily on the select split; the mean of what these
    preferences make of their scores is what checkpoints are chosen by and convergence is judged on.
    """

    @abstractmethod
    def answering(self, preference_K: Tensor) -> Sampler:
        """Who answers a preference as training stands."""

    @cached_property
    def grid(self) -> Mapping[str, FixedWeights]:
        bench, k = self.bench, len(self.bench.objectives)
        corners = [one_hot(i, k, bench.reward) for i in range(k)]
        points = dict.fromkeys([*corners, fixed_weights(None, bench.objectives, bench.reward)])  # one, where K is 1
        return {f"{self.name}/{'-'.join(f'{w:.2f}' for w in point.weights)}": point for point in points}

    @property
    def validation_prompts(self) -> int:
        return len(self.grid) * len(self.bench.select)

    @property
    def graded(self) -> Mapping[str, Sampler]:
        return {name: self.answering(torch.tensor(point.weights)) for name, point in self.grid.items()}

    def central(self, scores: Mapping[str, Tensor]) -> Tensor:
        return scores[list(self.grid)[-1]]  # the uniform preference's

    def worth(self, name: str, scores_K: Tensor) -> float:
        return self.grid[name].utility(scores_K)

    def judged(self, utilities: Mapping[str, float]) -> Mapping[str, float]:
        every_W = torch.tensor(list(utilities.values()), dtype=torch.float64)
        return {self.name: mean_scores(every_W).item()}
