"""Pareto set learning (PSL-MORL, 2501.06773): one hypernetwork answers every preference, trained on sampled ones.

``c_li(w) = w_i + h(w)_li``: a network h, which all layers share, says by how much the weight of expert i at layer l
differs from that of the preference's rewarded soup. Its last layer starts at 0, so training starts at the soup.
Coefficients are free: they may be negative, and need not sum to 1. `training` has the training.

Against the paper: its hypernetwork makes every weight of a small control policy; here it makes the mixing coefficients
of frozen experts, a few numbers for each adapted layer, as the whole of a language model's adapter would take a
hypernetwork larger than the adapter. A step has several preferences, drawn from Dirichlet(1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.conditioned.training import Conditioning, fit_conditioned
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution, UpdateRule


class Hypernetwork(nn.Module):
    """A preference (K,) to coefficients (L, K); at first the preference itself for every layer."""

    def __init__(self, layers: int, experts: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(experts, width), nn.Linear(width, width)
        self.last = nn.Linear(width, layers * experts)
        for hidden in (self.first, self.second):
            nn.init.kaiming_uniform_(hidden.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(hidden.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, preference_K: Tensor) -> Tensor:
        hidden = self.second(self.first(preference_K).relu()).relu()
        change_LK: Tensor = self.last(hidden).view(-1, len(preference_K))
        return preference_K + change_LK


@dataclass(frozen=True)
class ParetoSet:
    """``update`` trains the hypernetwork, on ``preferences`` drawn in each step; experts are trained by the configured
    rule. ``width``: of a hidden layer.
    """

    update: UpdateRule
    preferences: int = 4
    width: int = 64

    def fit(self, bench: Bench) -> Solution:
        if self.width < 1:
            raise UserError(f"method.width={self.width}: give 1 or more hidden units")

        def network(layers: int, experts: int, rng: torch.Generator) -> nn.Module:
            return Hypernetwork(layers, experts, self.width, rng)

        return fit_conditioned(bench, "hypernetwork", Conditioning(self.update, self.preferences), network)
