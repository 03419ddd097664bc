"""What is compared: numbers of single runs, and KL at equal gold, which takes the runs of several coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import BASE, GOLD, ceiling, normalised
from emorl_bench.report.read import Run
from emorl_bench.report.reading import Read, number, uniform

Floats = NDArray[np.float64]

DECODING = "greedy"
ENOUGH = 0.9  # share of a final gold that counts as having reached it
MARGIN = 0.02  # of gold on the scale from base (0) to ceiling (1)
DOUBLINGS = 0.25  # margin of ratios, as their logarithm to base 2: 19 % more


@dataclass(frozen=True)
class Measure:
    """A number of a run. ``of`` gives the reader for one cell, in which ``theirs`` are the other side's runs."""

    unit: str
    margin: float
    """Differences below it count as equal."""
    of: Callable[[Comparison, Sequence[Run]], Read]


@dataclass(frozen=True)
class Scale:
    """Gold at the uniform preference, from the mean of the base (0) to the best legal answers (1)."""

    base: float
    best: float

    @classmethod
    def of(cls, comparison: Comparison) -> Scale | None:
        """None where a cell has no ceiling, no run of the base, or no room between them."""
        best, read = ceiling(comparison), uniform("gold_mean_reward")
        known = [value for run in comparison.runs if run.family == BASE and (value := read(run, DECODING)) is not None]
        if not known or best is None or best["uniform"] <= (base := sum(known) / len(known)):
            return None
        return cls(base, best["uniform"])

    def __call__(self, graded: Mapping[str, Any]) -> float | None:
        """The scaled gold of a run's, or a rung's, record of one decoding."""
        gold = number(graded["uniform"], "gold_mean_reward")
        return None if gold is None else (gold - self.base) / (self.best - self.base)


def uniform_gold(comparison: Comparison) -> Read:
    """Gold at the uniform preference on `Scale`."""
    scale = Scale.of(comparison)
    return lambda run, decoding: None if scale is None else scale(run.decoding[decoding])


def doublings_at_uniform(comparison: Comparison, theirs: Sequence[Run]) -> Read:
    """Logarithm to base 2 of the prompts that a run needs for `ENOUGH` of the other side's final gold.

    Between two rungs of the ladder gold is taken to rise along a line, and to be that of the base at no prompts. A run
    that does not reach it counts with twice its prompts.
    """
    read = uniform_gold(comparison)
    finals = [value for run in theirs if (value := read(run, DECODING)) is not None]

    def needed(run: Run, decoding: str) -> float | None:
        rungs = _rungs(comparison, run)
        if not finals or not rungs:
            return None
        return math.log2(prompts_for(ENOUGH * sum(finals) / len(finals), rungs))

    return needed


def prompts_for(level: float, rungs: Sequence[tuple[float, float]]) -> float:
    """Prompts at which (prompts, gold) first reach a level, from (0, 0) on; twice the last prompts where they never do.

    A level of at most 0 needs one prompt.
    """
    if level <= 0:
        return 1.0
    before, at = 0.0, 0.0
    for prompts, gold in rungs:
        if gold >= level:
            return max(1.0, before + (prompts - before) * (level - at) / (gold - at))
        before, at = prompts, gold
    return 2 * before


def _rungs(comparison: Comparison, run: Run) -> list[tuple[float, float]]:
    """(prompts, scaled gold at the uniform preference) of each share of the budget, rising."""
    if (scale := Scale.of(comparison)) is None:
        return []
    spent = [(number(rung, "data_points"), rung["decoding"][DECODING]) for rung in run.ladder]
    spent.append((run.cost.get("data_points_sum"), run.decoding[DECODING]))
    found = {prompts: gold for prompts, graded in spent if prompts is not None and (gold := scale(graded)) is not None}
    return sorted(found.items())


def next_preference(run: Run, _: str) -> float | None:
    """Prompts for one more preference, as a share of those for the first."""
    first, more = (number(run.change.get(what, {}), "prompts") for what in ("first_preference", "next_preference"))
    return None if first is None or more is None or first == 0 else more / first


def doublings_of_next_objective(run: Run, _: str) -> float | None:
    """Logarithm to base 2 of the prompts for one more objective."""
    more = number(run.change.get("next_objective", {}), "prompts")
    return math.log2(more) if more else None


MEASURES: Mapping[str, Measure] = {
    "gold": Measure("of the way from base to ceiling", MARGIN, lambda cell, theirs: normalised(cell, DECODING)),
    "gold utility": Measure("of gold utility", MARGIN, lambda cell, theirs: GOLD),
    "uniform gold": Measure("of the way from base to ceiling", MARGIN, lambda cell, theirs: uniform_gold(cell)),
    "prompts at uniform": Measure("doublings of prompts", DOUBLINGS, doublings_at_uniform),
    "next preference": Measure("of the first preference's prompts", MARGIN, lambda cell, theirs: next_preference),
    "next objective": Measure("doublings of prompts", DOUBLINGS, lambda cell, theirs: doublings_of_next_objective),
}
KL_AT_EQUAL_GOLD = "KL at equal gold"  # takes the runs of several coefficients together


def doublings_at_equal_gold(comparison: Comparison, ours: Sequence[Run], theirs: Sequence[Run]) -> dict[int, float]:
    """Seed -> logarithm to base 2 of our KL over theirs, where both have the same gold.

    A seed's runs at several coefficients are points (KL, gold). Gold is made to rise with KL by isotonic regression,
    from the base at (0, 0) on, and the KL for a level lies on the line between two points. The level is `ENOUGH` of the
    smaller one of the two highest golds. A seed is left out where a side never is above the base.
    """
    read, kl, found = normalised(comparison, DECODING), uniform("kl"), {}
    sides = [_by_seed(runs, read, kl) for runs in (ours, theirs)]
    for seed in sorted(sides[0].keys() & sides[1].keys()):
        curves = [rising(side[seed]) for side in sides]
        level = ENOUGH * min(gold_N[-1] for _, gold_N in curves)
        if level > 0:
            mine, other = (kl_for(level, *curve) for curve in curves)
            found[seed] = math.log2(mine / other)
    return found


def _by_seed(runs: Sequence[Run], read: Read, kl: Read) -> dict[int, list[tuple[float, float]]]:
    found: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        nats, gold = kl(run, DECODING), read(run, DECODING)
        if nats is not None and gold is not None and nats > 0:
            found.setdefault(run.seed, []).append((nats, gold))
    return found


def rising(points: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """(KL, gold), each (N,): the closest non-decreasing gold (pool adjacent violators), from the base at (0, 0) on.

    Gold below the base counts as that of the base.
    """
    ordered = sorted(points)
    pools: list[list[float]] = []
    for _, gold in ordered:
        pools.append([gold])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    golds = [max(0.0, float(np.mean(pool))) for pool in pools for _ in pool]
    return np.array([0.0, *(nats for nats, _ in ordered)]), np.array([0.0, *golds])


def kl_for(level: float, kl_N: Floats, gold_N: Floats) -> float:
    """The least KL at which a curve of `rising` has a level, which is above 0 and at most the last gold."""
    after = int(np.searchsorted(gold_N, level))
    share = (level - gold_N[after - 1]) / (gold_N[after] - gold_N[after - 1])
    return float(kl_N[after - 1] + share * (kl_N[after] - kl_N[after - 1]))
