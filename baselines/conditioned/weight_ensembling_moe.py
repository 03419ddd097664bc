"""Pareto-driven weight-ensembling mixture of experts (PWE-MoE, 2406.09770): each layer has a router of its own.

Router l maps the preference to the weights of the experts' updates at layer l: ``theta_l = base_l + sum_i g_li(w)
tau_li``. It has K inputs, 2K hidden units and K outputs. Weights start at random with a standard deviation of 0.01, and
the last biases start at 0.3. So training starts near task arithmetic with 0.3 for every preference, and has to learn to
use the preference. Only the routers are trained (`training`).

Against the release: task vectors are LoRA updates. Every adapted linear layer has a router, where the release gives one
to each MLP or attention block and leaves the rest at 0.3. The loss is a policy gradient of the preference's weighted
reward, where the release weighs cross-entropies on each task's data. The variant with exact Pareto optimality (EPO) is
left out. A step has several preferences, where the release has one. The learning rate is constant, where the release
has a cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.conditioned.training import Conditioning, fit_conditioned
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Solution, UpdateRule

SPREAD = 0.01  # standard deviation of initial weights, as in the release


class Routers(nn.Module):
    """L routers side by side, from a preference (K,) to coefficients (L, K).

    Args:
        layers: L, the adapted layers.
        experts: K, one for each objective.
        bias: the initial bias of every coefficient.
        rng: draws the initial weights.
    """

    def __init__(self, layers: int, experts: int, bias: float, rng: torch.Generator) -> None:
        """Draw the initial weights."""
        super().__init__()
        hidden = 2 * experts
        self.weight_in_LHK = nn.Parameter(SPREAD * torch.randn(layers, hidden, experts, generator=rng))
        self.bias_in_LH = nn.Parameter(torch.zeros(layers, hidden))
        self.weight_out_LKH = nn.Parameter(SPREAD * torch.randn(layers, experts, hidden, generator=rng))
        self.bias_out_LK = nn.Parameter(torch.full((layers, experts), bias))

    def forward(self, preference_K: Tensor) -> Tensor:
        """The coefficients (L, K) of a preference (K,)."""
        hidden_LH = (self.weight_in_LHK @ preference_K + self.bias_in_LH).relu()
        return (self.weight_out_LKH @ hidden_LH[..., None]).squeeze(-1) + self.bias_out_LK


@dataclass(frozen=True)
class WeightEnsemblingMoe:
    """Routers on top of experts, which are trained by the configured update rule.

    Attributes:
        update: the rule that trains the routers.
        preferences: the number of preferences that each step draws.
        bias: what every coefficient is at first, nearly.
    """

    update: UpdateRule
    preferences: int = 4
    bias: float = 0.3

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: ``bias`` is not finite, or what `fit_conditioned` raises.
        """
        if not math.isfinite(self.bias):
            raise UserError(f"method.bias={self.bias}: give a number, such as 0.3")

        def network(layers: int, experts: int, rng: torch.Generator) -> nn.Module:
            return Routers(layers, experts, self.bias, rng)

        return fit_conditioned(bench, "routers", Conditioning(self.update, self.preferences), network)
