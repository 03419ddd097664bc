"""EMORL (2505.02579): one LoRA expert per objective, last hidden states blended while decoding, the blend found by
search.

Against the release: every expert and every baseline has the same adapter, decoding and budget; the search works for any
number of objectives, remembers what it has evaluated, and answers every preference, not only the uniform one.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class Emorl:
    """``aggregator``: where experts are averaged. ``search``: how the weights are found, for each preference or for the
    whole front at once. ``search_share``: of the budget's prompts, for the search of all preferences.
    """

    aggregator: Aggregator
    search: SearchStrategy | FrontStrategy
    search_share: float = 0.25

    def fit(self, bench: Bench) -> Solution:
        if len(bench.objectives) < 2:
            raise UserError(
                f"a blend of experts needs at least 2 objectives, task has only '{bench.objectives[0]}'; "
                "use method=single_objective or add objectives to the task"
            )
        self.aggregator.validate(bench.new_policy("check"))
        experts = expert_bank(bench, reserve=self.search_share)
        return SearchedFront(bench, experts, self.aggregator, self.search, self.search_share)
