"""The cost of change for a method: one more preference, one more objective.

It follows from the method's phases and from its record of searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emorl_bench.core.ledger import Cost
from emorl_bench.core.totals import is_counted, learner_phases, part_of_phase

Price = dict[str, float]
"""``prompts`` and ``flops``."""


def change(
    phases: Mapping[str, Cost], objectives: Sequence[str], paid: Mapping[tuple[float, ...], int], *, one_policy: bool
) -> dict[str, Price]:
    """Prompts and FLOPs to answer the first preference, each further one, and after one more objective.

    Learners that are named after the objectives, all of them, are experts. One more objective then costs one more
    expert; the others stay. Everything else is trained again, and the search for one preference is done again. A
    further preference costs its search (the mean of all searches but the first). A method without a search that answers
    each preference in its own way pays nothing for one more. A method with one policy for all preferences must train it
    again.

    Args:
        phases: the ledger's phases.
        objectives: names of the K objectives.
        paid: prompts of each preference's search, in order (`ensemble.evaluations.paid_by_preference`). A search's
            FLOPs are divided in the same proportion.
        one_policy: whether one policy answers all preferences.
    """
    learners = {
        name: _sum([phases[phase] for phase in both if phase in phases])
        for name, both in learner_phases(phases).items()
    }
    has_experts = set(objectives) <= set(learners)
    experts = [learners[name] for name in objectives] if has_experts else []
    rest = _total([price for name, price in learners.items() if not (has_experts and name in objectives)])
    first, further = _searches(phases, list(paid.values()))
    if not paid and one_policy:
        further = rest
    return {
        "first_preference": _total([*learners.values(), first]),
        "next_preference": further,
        "next_objective": _total([_mean(experts), rest, first]),
    }


def _searches(phases: Mapping[str, Cost], paid: Sequence[int]) -> tuple[Price, Price]:
    """The price of the first preference's search, and the mean price of the others."""
    flops = sum(cost.flops for name, cost in phases.items() if is_counted(name) and part_of_phase(name) == "search")
    each = flops / total if (total := sum(paid)) else 0.0
    prices = [_price(prompts, prompts * each) for prompts in paid]
    return _total(prices[:1]), _mean(prices[1:])


def _price(prompts: float, flops: float) -> Price:
    return {"prompts": prompts, "flops": flops}


def _sum(costs: Sequence[Cost]) -> Price:
    return _price(sum(cost.prompts for cost in costs), sum(cost.flops for cost in costs))


def _total(prices: Sequence[Price]) -> Price:
    return _price(sum(price["prompts"] for price in prices), sum(price["flops"] for price in prices))


def _mean(prices: Sequence[Price]) -> Price:
    return {key: value / max(1, len(prices)) for key, value in _total(prices).items()}
