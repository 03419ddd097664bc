"""DARE (2311.03099) of the experts that EMORL blends: entries dropped at random, the rest rescaled, then averaged.

`emorl_bench.ensemble.dare` has the rule and what differs from the paper. Merging weights are searched with the very
search that EMORL uses; ``search=null`` merges uniformly. What is dropped is drawn once for a run's seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.dare import Dare
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class DareMerge:
    """``drop``: share of each expert's entries that goes."""

    drop: float = 0.5
    search: SearchStrategy | FrontStrategy | None = None
    search_share: float = 0.25  # of the budget's prompts, where there is a search

    def fit(self, bench: Bench) -> Solution:
        rule = Dare(self.drop, bench.seed)  # before anything is trained: it refuses bad values
        share = 0.0 if self.search is None else self.search_share
        return searched_or_uniform(bench, expert_bank(bench, reserve=share), rule, self.search, share)
