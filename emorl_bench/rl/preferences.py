"""One policy for all preferences: how preferences are drawn in training, and at which ones the policy is validated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from emorl_bench.core.masked import mean_scores
from emorl_bench.core.protocols import Bench, Sampler
from emorl_bench.core.types import Example
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.weighting import FixedWeights, fixed_weights, one_hot


def drawn(count: int, objectives: int, rng: torch.Generator) -> Tensor:
    """(W, K) preferences from Dirichlet(1), uniform on the simplex: exponential numbers divided by their sum."""
    parts_WK = torch.empty(count, objectives, dtype=torch.float64).exponential_(generator=rng)
    return parts_WK / parts_WK.sum(1, keepdim=True)


def select_part(bench: Bench, preferences: int) -> Sequence[Example]:
    """The first of the select prompts: as many as each preference answers, where all together may ask a whole split."""
    return bench.select[: max(1, len(bench.select) // preferences)]


class PreferenceRun(TrainingRun, ABC):
    """The training of one policy that answers every preference, whose name is `TrainingRun.name`.

    A validation decodes the select split greedily at each corner of the simplex and at its centre. Each of these
    preferences gives a utility. Checkpoints are chosen and convergence is judged by the mean of these utilities. The
    preferences divide the prompts of a validation, so that it costs what the validation of any other policy costs.
    """

    @abstractmethod
    def answering(self, preference_K: Tensor) -> Sampler:
        """The sampler that answers a preference (K,), as the policy is now."""

    @cached_property
    def grid(self) -> Mapping[str, FixedWeights]:
        """The weights of each preference that is validated, by its name in the record."""
        bench, k = self.bench, len(self.bench.objectives)
        corners = [one_hot(i, k, bench.reward) for i in range(k)]
        points = dict.fromkeys([*corners, fixed_weights(None, bench.objectives, bench.reward)])  # only one where K is 1
        return {f"{self.name}/{'-'.join(f'{w:.2f}' for w in point.weights)}": point for point in points}

    @property
    def select_prompts(self) -> Sequence[Example]:
        """The select prompts that each preference answers."""
        return select_part(self.bench, len(self.grid))

    @property
    def validation_prompts(self) -> int:
        """Prompts of a validation: each preference answers its part of the select split."""
        return len(self.grid) * len(self.select_prompts)

    @property
    def graded(self) -> Mapping[str, Sampler]:
        """The sampler of each preference that is validated, by name."""
        return {name: self.answering(torch.tensor(point.weights)) for name, point in self.grid.items()}

    def central(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The mean scores (K,) of the uniform preference, which is the last of the grid."""
        return scores[list(self.grid)[-1]]

    def worth(self, name: str, scores_K: Tensor) -> float:
        """The utility of mean scores (K,) under the preference of this name."""
        return self.grid[name].utility(scores_K)

    def judged(self, utilities: Mapping[str, float]) -> Mapping[str, float]:
        """The mean utility, by which the best checkpoint of the policy is chosen."""
        every_W = torch.tensor(list(utilities.values()), dtype=torch.float64)
        return {self.name: mean_scores(every_W).item()}
