"""TIES (2306.01708) of the experts that EMORL blends: trimmed, one sign for each entry, averaged where they agree.

`emorl_bench.ensemble.ties` has the rule and what differs from the release. Merging weights are searched with the very
search that EMORL uses; ``search=null`` is the paper's merge, uniform, one policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.ensemble.ties import Ties
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class TiesMerge:
    """``density``: share of each expert's entries that stays. ``scale``: the merge is multiplied by it."""

    density: float = 0.2
    scale: float = 1.0
    search: SearchStrategy | FrontStrategy | None = None
    search_share: float = 0.25  # of the budget's prompts, where there is a search

    def fit(self, bench: Bench) -> Solution:
        rule = Ties(self.density, self.scale)  # before anything is trained: it refuses bad values
        share = 0.0 if self.search is None else self.search_share
        return searched_or_uniform(bench, expert_bank(bench, reserve=share), rule, self.search, share)
