"""Experts without blending: the best possible score in one objective, and what a blend must beat to be worth its price.

With ``objective`` the method is that expert alone. Without it, each preference is answered by the expert that serves it
best on the select split. So the front consists of the K experts themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.protocols import Aggregator, Bench, Policy, Sampler, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.ensemble.merging import SideBySide
from emorl_bench.rl.experts import expert, expert_bank
from emorl_bench.search.simplex import SimplexSubdivision


@dataclass(frozen=True)
class OneOfThem(Aggregator):
    """The expert that has all the weight; the search asks for one-hot weight vectors only."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return SideBySide(experts, weights_WM)


@dataclass(frozen=True)
class SingleObjective:
    """One expert, or the best expert for each preference.

    Attributes:
        objective: the name of one objective of the task, or None for the best expert.
        search_share: the share of the budget's prompts that finds out which expert is the best.
    """

    objective: str | None = None
    search_share: float = 0.25

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: the task has no such objective.
        """
        if self.objective is None:
            # A simplex that is never subdivided has only its corners: the experts.
            experts = expert_bank(bench, reserve=self.search_share)
            return SearchedFront(bench, experts, OneOfThem(), SimplexSubdivision(levels=0), self.search_share)
        if self.objective not in bench.objectives:
            hint = did_you_mean(self.objective, bench.objectives)
            raise UserError(f"method.objective='{self.objective}': no such objective{hint}")
        return OnePolicy(expert(bench, self.objective, reserve=self.search_share))
