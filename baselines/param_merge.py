"""Parameter merging: the same experts, averaged once in weight space instead of at every token (rewarded soups,
2306.04488; model soups 2203.05482).

`method=param_merge_uniform` is the uniform soup, one policy; `method=param_merge` searches the soup for each preference
with the very search that EMORL uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.ensemble.merging import Parameters
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class ParamMerge:
    """``search``: how merging weights are found for each preference; ``None`` merges uniformly."""

    search: SearchStrategy | FrontStrategy | None = None
    search_share: float = 0.25  # of the budget's prompts, where there is a search

    def fit(self, bench: Bench) -> Solution:
        share = 0.0 if self.search is None else self.search_share
        return searched_or_uniform(bench, expert_bank(bench, reserve=share), Parameters(), self.search, share)
