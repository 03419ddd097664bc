"""RAM (2601.13572) of the experts that EMORL blends: shared changes averaged, an expert's own kept and stretched.

`emorl_bench.ensemble.ram` has the rule and what differs from the release. Merging weights are searched with the very
search that EMORL uses; ``search=null`` is the paper's merge, uniform, one policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.ensemble.ram import Ram
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class RamMerge:
    """See `emorl_bench.ensemble.ram.Ram`. ``rescale`` 0 is RAM, above 0 RAM+."""

    density: float = 0.2
    threshold: float = 1e-5
    rescale: float = 0.2
    ceiling: float = 1.0
    search: SearchStrategy | FrontStrategy | None = None
    search_share: float = 0.25  # of the budget's prompts, where there is a search

    def fit(self, bench: Bench) -> Solution:
        rule = Ram(self.density, self.threshold, self.rescale, self.ceiling)  # refuses bad values before training
        share = 0.0 if self.search is None else self.search_share
        return searched_or_uniform(bench, expert_bank(bench, reserve=share), rule, self.search, share)
