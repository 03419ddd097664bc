"""EMORL (2505.02579): one LoRA expert for each objective; their last hidden states are blended while decoding.

The weights of the blend are found by search. Against the release: every expert and every baseline has the same adapter,
decoding and budget. The search works for any number of objectives, caches what it has evaluated, and answers every
preference, not only the uniform one.

Other ways to combine the same experts differ in the aggregator alone: `baselines.ties` and similar pages hold one
aggregator each.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Bench, FrontStrategy, SearchStrategy, Solution
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.rl.experts import expert_bank
from emorl_bench.rl.given_experts import Given, check_given, given_experts


@dataclass(frozen=True)
class Emorl:
    """Settings. ``aggregator``: where experts are averaged, or how they are merged.

    ``search``: how the weights are found, for each preference or for all at once; ``None``: uniform weights answer
    every preference. ``search_share``: the share of the budget's prompts that the search of all preferences may spend.
    ``experts``: directories of PEFT LoRA adapters, one for each objective in the task's order. They are used as the
    experts, and nothing is trained.

    Raises:
        UserError: a directory of ``experts`` holds no adapter of PEFT.
    """

    aggregator: Aggregator
    search: SearchStrategy | FrontStrategy | None
    search_share: float = 0.25
    experts: Given | None = None

    def __post_init__(self) -> None:
        """Look for the adapters that are given, before a model is loaded."""
        check_given(self.experts)

    def fit(self, bench: Bench) -> Solution:
        """Train the experts, and return the solution that searches their blend.

        Raises:
            UserError: there is one objective only, the aggregator does not work with this model, or the budget is too
                small.
        """
        if len(bench.objectives) < 2:
            raise UserError(
                f"a blend of experts needs at least 2 objectives, task has only '{bench.objectives[0]}'; "
                "use method=single_objective or add objectives to the task"
            )
        self.aggregator.validate(bench.new_policy("check"))
        share = 0.0 if self.search is None else self.search_share
        if self.experts is None:
            experts = expert_bank(bench, reserve=self._reserved(bench, share))
        else:
            experts = given_experts(bench, self.experts)
        aggregator = self.aggregator.calibrated(bench, experts)
        return searched_or_uniform(bench, experts, aggregator, self.search, share)

    def _reserved(self, bench: Bench, share: float) -> float:
        """The share of the budget's prompts that experts may not spend. A calibration may need more than the search."""
        needed, whole = self.aggregator.calibration_prompts, bench.budget.prompts
        return share if whole is None or not needed else min(0.99, max(share, needed / whole))
