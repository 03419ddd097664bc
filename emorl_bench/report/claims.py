"""Is a method better than the reference, on the seeds that both have, and how certain can so few seeds be?

A difference is claimed only where its corrected p is at most 5 % and its interval does not contain 0. All others are
undecided, whatever the means are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emorl_bench.indicators.intervals import (
    Interval,
    hierarchical_bootstrap,
    holm,
    paired_permutation_test,
    probability_of_improvement,
    smallest_p,
    t_interval,
)
from emorl_bench.report.columns import Column, gold_columns, gold_quality_columns, headline, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.tables import Table, chooses, is_single_point

TESTED = ("mean_reward", "worst_objective", "hypervolume", "held_out_mean_reward")
TESTED_GOLD = ("gold_deployed_utility", "gold_mean_reward", "held_out_deployed_utility", "deployed_utility")
OF_FRONTS = ("hypervolume",)  # compared only between methods that answer preferences differently
LEVEL = 0.05
ALIKE = ("weighted_scst", "rloo")  # one gradient up to a constant, which AdamW ignores: they differ by rounding alone


@dataclass(frozen=True)
class Claim:
    """Method minus reference in one indicator, over the seeds that they share."""

    indicator: str
    method: str
    differences: tuple[float, ...]
    p: float
    improvement: Interval
    """How often a run of the method beats one of the reference, over all pairs of seeds."""

    @property
    def pairs(self) -> int:
        """Number of seeds that both have."""
        return len(self.differences)

    def verdict(self, adjusted_p: float) -> str:
        """``higher``, ``lower`` or ``undecided``, by the corrected p and the interval."""
        difference = t_interval(self.differences)
        if adjusted_p > LEVEL or self.pairs < 2 or difference.low <= 0 <= difference.high:
            return "undecided"
        return "higher" if difference.mean > 0 else "lower"


def claims(comparison: Comparison, decoding: str, reference: str) -> list[list[Claim]]:
    """The tests of each indicator. The tests of one indicator are one family for Holm's correction."""
    methods = comparison.methods(decoding)
    if reference not in methods:
        return []
    families = [
        [
            claim
            for method, runs in methods.items()
            if method != reference and (claim := _claim(column, method, runs, methods[reference], decoding)) is not None
        ]
        for column in tested(comparison, decoding)
    ]
    return [family for family in families if family]


def tested(comparison: Comparison, decoding: str) -> list[Column]:
    """The indicators that are tested: gold first, where there is gold."""
    if not has_gold(comparison):
        return [column for column in quality_columns(comparison) if column.key in TESTED]
    columns = [*gold_columns(comparison, decoding), *gold_quality_columns(comparison)]
    found = {column.key: column for column in columns}
    return [found[key] for key in TESTED_GOLD]


def claims_table(comparison: Comparison, decoding: str, reference: str) -> Table | None:
    """Differences with 95 % t intervals over pairs, p values before and after Holm's correction, and the verdicts."""
    rows = []
    for family in claims(comparison, decoding, reference):
        for claim, adjusted in zip(family, holm([claim.p for claim in family]), strict=True):
            rows.append(
                (
                    claim.indicator,
                    claim.method,
                    str(claim.pairs),
                    _difference(claim),
                    f"{claim.p:.3g}",
                    f"{adjusted:.3g}",
                    f"{smallest_p(claim.pairs):.3g}",
                    _share(claim.improvement),
                    claim.verdict(adjusted),
                )
            )
    header = ("indicator", "method", "pairs", f"minus {reference}", "p", "p (Holm)", "smallest possible p")
    return Table((*header, "P(improvement)", "the method is"), tuple(rows)) if rows else None


def alike_table(comparison: Comparison, decoding: str) -> Table | None:
    """Two methods that differ only by rounding: it shows by how much equal methods differ here."""
    methods, column = comparison.methods(decoding), headline(comparison)
    if not all(name in methods for name in ALIKE):
        return None
    one, other = (methods[name] for name in ALIKE)
    if (claim := _claim(column, ALIKE[0], one, other, decoding)) is None:
        return None
    size = float(np.abs(claim.differences).mean())
    row = (" − ".join(ALIKE), column.title, str(claim.pairs), _difference(claim), f"{size:.3f}")
    header = ("A/A", "indicator", "pairs", "difference", "mean absolute difference", "P(improvement)")
    return Table(header, ((*row, _share(claim.improvement)),))


def bootstrap_table(comparison: Comparison, decoding: str) -> Table | None:
    """Gold mean, or else mean reward, with a hierarchical bootstrap over seeds and report prompts."""
    gold, rows = has_gold(comparison), []
    for method, runs in sorted(comparison.methods(decoding).items()):
        by_prompt = [scores for run in runs if (scores := run.reward_by_prompt(decoding, "gold/" * gold))]
        if not by_prompt or (chooses(runs) and headline(comparison).by_scorers):
            continue
        prompts = sorted(set.intersection(*(set(scores) for scores in by_prompt)))
        values_NP = np.array([[scores[prompt] for prompt in prompts] for scores in by_prompt])
        interval = hierarchical_bootstrap(values_NP, np.random.default_rng(0))
        bounds = f"{interval.low:.3f} to {interval.high:.3f}"
        rows.append((method, str(len(by_prompt)), str(len(prompts)), f"{interval.mean:.3f}", bounds))
    header = ("method", "seeds", "prompts", "gold mean" if gold else "mean reward", "95 % interval")
    return Table(header, tuple(rows)) if rows else None


def _claim(column: Column, method: str, runs: Sequence[Run], reference: Sequence[Run], decoding: str) -> Claim | None:
    if column.key in OF_FRONTS and (is_single_point(runs) or is_single_point(reference)):
        return None
    if column.by_scorers and (chooses(runs) or chooses(reference)):
        return None
    ours = {run.seed: value for run in runs if (value := column.read(run, decoding)) is not None}
    theirs = {run.seed: value for run in reference if (value := column.read(run, decoding)) is not None}
    pairs = [(a, theirs[seed]) for seed, a in ours.items() if seed in theirs]
    if not pairs:
        return None
    a_N, b_N = np.array(pairs).T
    improvement = probability_of_improvement(list(ours.values()), list(theirs.values()), np.random.default_rng(0))
    differences = tuple((a_N - b_N).tolist())
    return Claim(column.title, method, differences, paired_permutation_test(a_N, b_N), improvement)


def _difference(claim: Claim) -> str:
    difference = t_interval(claim.differences)
    spread = f" ± {difference.half_width:.3f}" if claim.pairs > 1 else ""
    return f"{difference.mean:+.3f}{spread}"


def _share(improvement: Interval) -> str:
    """A probability; from one pair there is no interval."""
    if improvement.n < 2:
        return f"{improvement.mean:.2f}"
    return f"{improvement.mean:.2f} ({improvement.low:.2f} to {improvement.high:.2f})"
