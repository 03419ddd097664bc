"""Parameter merging: the same experts, averaged once in weight space instead of at every token (rewarded soups,
2306.04488; model soups 2203.05482).

`method=param_merge_uniform` is the uniform soup, one policy; `method=param_merge` searches the soup for each preference
with the very search that EMORL uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from emorl_bench.core.protocols import Bench, SearchStrategy, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.ensemble.merging import Parameters
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class ParamMerge:
    """``search``: how merging weights are found for each preference; ``None`` merges uniformly."""

    search: SearchStrategy | None = None

    def fit(self, bench: Bench) -> Solution:
        experts = expert_bank(bench)
        if self.search is not None:
            return SearchedFront(bench, experts, Parameters(), self.search)
        uniform_WM = torch.full((1, len(experts)), 1 / len(experts), dtype=torch.float64)
        return OnePolicy(Parameters().blend(experts, uniform_WM))
