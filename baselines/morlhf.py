"""MORLHF: one policy for each preference, trained on the preference's weighted sum of the scores.

This is the reference line of Rewarded Soups (2306.04488), RiC (2402.10207) and MOD (2406.18853). It shows what a front
costs that is trained point by point, and what that front is worth. Each policy is trained by the configured update
rule, and deployed at its best validation under its own preference. The policies learn side by side where that saves
time.

The budget is divided among the policies. With ``each`` every policy has the whole budget, so the method costs as many
budgets as there are preferences. A budget that cannot pay for a step of every policy trains as many policies as it can:
first that of the most even preference, then those of the corners, then the rest. A preference may have no policy for
that reason, or because it is not graded. It is then answered by the policy of the nearest preference (Euclidean
distance, the first of equals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy, Sampler, Solution
from emorl_bench.core.types import Budget
from emorl_bench.rl.loop import single_policy_run, train_runs
from emorl_bench.rl.weighting import FixedWeights

Preference = tuple[float, ...]


@dataclass(frozen=True)
class Morlhf:
    """One policy for each graded preference.

    Attributes:
        each: whether every policy has the whole budget, and not its share.
    """

    each: bool = False

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: the bench names no preferences, or the budget pays for no training.
        """
        if not bench.preferences:
            raise UserError("method=morlhf: trains a policy for each graded preference, and this bench names none")
        wanted = in_order(bench.preferences)
        budgets = [bench.budget] * len(wanted) if self.each else shares(bench, len(wanted))
        if self.each and bench.budget.prompts is not None:
            # `each` is the only key by which a method may exceed its budget.
            bench.ledger.limit = len(wanted) * bench.budget.prompts
        policies: dict[Preference, Policy] = {w: bench.new_policy(named(w)) for w in wanted[: len(budgets)]}
        runs = [
            single_policy_run(bench, policy, FixedWeights(w, bench.reward), name=named(w), budget=budget)
            for (w, policy), budget in zip(policies.items(), budgets, strict=True)
        ]
        train_runs(bench, runs)
        return OneEach(policies)


@dataclass(frozen=True)
class OneEach(Solution):
    """A `Solution` that answers with the policy of the nearest preference."""

    policies: dict[Preference, Policy]

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """See `core.protocols.Solution.policy_for`."""
        known_WK = torch.tensor(list(self.policies), dtype=torch.float64)
        nearest = int((known_WK - preference_K.double()).norm(dim=1).argmin())
        return list(self.policies.values())[nearest]


def named(preference: Preference) -> str:
    """A preference as the name of a learner: ``1-0-0``, ``0.3333-0.6667-0``."""
    return "-".join(f"{weight:.4g}" for weight in preference)


def in_order(preferences: Sequence[Preference]) -> list[Preference]:
    """Each preference once: the most even first, then the corners, then the others as they are given."""
    once = list(dict.fromkeys(preferences))
    even = max(once, key=lambda w: -max(w))
    return [even, *sorted((w for w in once if w != even), key=lambda w: max(w) < 1)]


def shares(bench: Bench, parts: int) -> Sequence[Budget]:
    """An even share of the budget for each of ``parts`` policies, or of fewer policies if the budget is small.

    A share must pay for one step and the validations before and after it. If an even share does not, as many policies
    as possible get that much. So no share falls as the budget grows, and a run that is graded on its way is the
    beginning of the whole run.
    """
    if bench.budget.prompts is None:
        return [bench.budget.share(parts)] * parts
    least = bench.training.batch_prompts + 2 * len(bench.select)
    if bench.budget.prompts >= parts * least:
        return [bench.budget.share(parts)] * parts
    parts = max(1, bench.budget.prompts // least)
    return [replace(bench.budget.share(parts), prompts=min(least, bench.budget.prompts))] * parts
