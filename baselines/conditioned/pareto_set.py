"""Pareto set learning (PSL-MORL, 2501.06773): one hypernetwork answers every preference.

``c_li(w) = w_i + h(w)_li``: a network h gives, for all layers at once, how much the weight of expert i at layer l
differs from its weight in the preference's rewarded soup. The network is trained on sampled preferences. Its last layer
starts at 0, so training starts at the soup. The coefficients are free: they may be negative, and need not sum to 1.
`training` has the training.

Against the paper: its hypernetwork makes every weight of a small control policy. Here the hypernetwork makes the mixing
coefficients of frozen experts, a few numbers for each adapted layer. A hypernetwork for a language model's whole
adapter would be larger than the adapter. Each step has several preferences, drawn from Dirichlet(1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.conditioned.training import Conditioning, fit_conditioned
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution, UpdateRule


class Hypernetwork(nn.Module):
    """A network from a preference (K,) to coefficients (L, K); at first each layer has the preference itself.

    Args:
        layers: L, the adapted layers.
        experts: K, one for each objective.
        width: the units of each of the two hidden layers.
        rng: draws the initial weights of the hidden layers.
    """

    def __init__(self, layers: int, experts: int, width: int, rng: torch.Generator) -> None:
        """Draw the initial weights; those of the last layer are 0."""
        super().__init__()
        self.first, self.second = nn.Linear(experts, width), nn.Linear(width, width)
        self.last = nn.Linear(width, layers * experts)
        for hidden in (self.first, self.second):
            nn.init.kaiming_uniform_(hidden.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(hidden.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, preference_K: Tensor) -> Tensor:
        """The coefficients (L, K) of a preference (K,)."""
        hidden = self.second(self.first(preference_K).relu()).relu()
        change_LK: Tensor = self.last(hidden).view(-1, len(preference_K))
        return preference_K + change_LK


@dataclass(frozen=True)
class ParetoSet:
    """A hypernetwork on top of experts, which are trained by the configured update rule.

    Attributes:
        update: the rule that trains the hypernetwork.
        preferences: the number of preferences that each step draws.
        width: the units of a hidden layer.
    """

    update: UpdateRule
    preferences: int = 4
    width: int = 64

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: ``width`` is below 1, or what `fit_conditioned` raises.
        """
        if self.width < 1:
            raise UserError(f"method.width={self.width}: give 1 or more hidden units")

        def network(layers: int, experts: int, rng: torch.Generator) -> nn.Module:
            return Hypernetwork(layers, experts, self.width, rng)

        return fit_conditioned(bench, "hypernetwork", Conditioning(self.update, self.preferences), network)
