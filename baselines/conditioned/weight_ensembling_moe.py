"""Pareto-driven weight-ensembling mixture of experts (PWE-MoE, 2406.09770): each layer has a router of its own.

Router l maps the preference to the weights of the experts' updates there: ``theta_l = base_l + sum_i g_li(w) tau_li``.
It has K inputs, 2K hidden units and K outputs; weights start at random with deviation 0.01, the last biases at 0.3, so
training starts near task arithmetic with 0.3 whatever the preference, and has to learn to listen. The routers alone are
trained (`training`).

Against the release: task vectors are LoRA updates; every adapted linear layer has a router, where the release gives one
to each MLP or attention block and leaves the rest at 0.3; the loss is a policy gradient of the preference's weighted
reward instead of weighted cross-entropies on each task's data, and the variant with exact Pareto optimality (EPO) is
left out; a step has several preferences instead of one, and the learning rate is constant instead of a cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.conditioned.training import Conditioning, fit_conditioned
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution, UpdateRule

SPREAD = 0.01  # of initial weights, as in the release


class Routers(nn.Module):
    """L routers side by side, a preference (K,) to coefficients (L, K)."""

    def __init__(self, layers: int, experts: int, bias: float, rng: torch.Generator) -> None:
        super().__init__()
        hidden = 2 * experts
        self.weight_in_LHK = nn.Parameter(SPREAD * torch.randn(layers, hidden, experts, generator=rng))
        self.bias_in_LH = nn.Parameter(torch.zeros(layers, hidden))
        self.weight_out_LKH = nn.Parameter(SPREAD * torch.randn(layers, experts, hidden, generator=rng))
        self.bias_out_LK = nn.Parameter(torch.full((layers, experts), bias))

    def forward(self, preference_K: Tensor) -> Tensor:
        hidden_LH = (self.weight_in_LHK @ preference_K + self.bias_in_LH).relu()
        return (self.weight_out_LKH @ hidden_LH[..., None]).squeeze(-1) + self.bias_out_LK


@dataclass(frozen=True)
class WeightEnsemblingMoe:
    """``update`` trains the routers, on ``preferences`` drawn in each step; experts are trained by the configured rule.
    ``bias``: every coefficient at first.
    """

    update: UpdateRule
    preferences: int = 4
    bias: float = 0.3

    def fit(self, bench: Bench) -> Solution:
        if not math.isfinite(self.bias):
            raise UserError(f"method.bias={self.bias}: give a number, such as 0.3")

        def network(layers: int, experts: int, rng: torch.Generator) -> nn.Module:
            return Routers(layers, experts, self.bias, rng)

        return fit_conditioned(bench, "routers", Conditioning(self.update, self.preferences), network)
