"""Each method against the reference: differences on the runs that both have, and what can be claimed from them.

Claims are made about one measure, the headline, under the decoding that comes first (`report.verdicts`). All other
measures are shown with intervals and without a verdict: a report that tests everything finds something by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emorl_bench.indicators.aggregates import probability_of_improvement
from emorl_bench.indicators.intervals import Interval, paired_permutation_test
from emorl_bench.report.columns import Column, gold_columns, gold_quality_columns, headline, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.tables import chooses, is_single_point
from emorl_bench.report.verdicts import Evidence, Verdict, decide

TESTED = ("mean_reward", "worst_objective", "hypervolume", "held_out_mean_reward")
TESTED_GOLD = ("gold_deployed_utility", "gold_mean_reward", "held_out_deployed_utility", "deployed_utility")
OF_FRONTS = ("hypervolume",)  # compared only between methods that answer preferences differently
ALIKE = ("weighted_scst", "rloo")  # one gradient up to a constant, which AdamW ignores: they differ by rounding alone


@dataclass(frozen=True)
class Claim:
    """Method minus reference in one indicator, over the runs that they share."""

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


def claims(comparison: Comparison, decoding: str, reference: str | None) -> list[list[Claim]]:
    """The differences of each indicator, a list for each; the headline is the first."""
    families = [_against(comparison, column, decoding, reference) for column in tested(comparison, decoding)]
    return [family for family in families if family]


def _against(comparison: Comparison, column: Column, decoding: str, reference: str | None) -> list[Claim]:
    """The differences of all methods in one indicator."""
    methods = comparison.methods(decoding)
    if reference not in methods:
        return []
    found = (
        _claim(column, method, runs, methods[reference], decoding)
        for method, runs in methods.items()
        if method != reference
    )
    return [claim for claim in found if claim is not None]


def tested(comparison: Comparison, decoding: str) -> list[Column]:
    """The indicators in which methods are compared: the headline first."""
    if not has_gold(comparison):
        return [column for column in quality_columns(comparison) if column.key in TESTED]
    columns = [*gold_columns(comparison, decoding), *gold_quality_columns(comparison)]
    found = {column.key: column for column in columns}
    return [found[key] for key in TESTED_GOLD]


def headline_claims(comparison: Comparison, decoding: str, reference: str | None) -> list[Claim]:
    """The differences in the headline."""
    return _against(comparison, headline(comparison), decoding, reference)


def verdicts(comparison: Comparison, reference: str | None) -> list[Verdict]:
    """What can be claimed of each method: by the headline, under the first decoding."""
    found = headline_claims(comparison, comparison.decodings()[0], reference)
    return decide([Evidence(claim.method, (np.array(claim.differences),)) for claim in found])


def alike(comparison: Comparison, decoding: str) -> Claim | None:
    """Two methods that differ only by rounding: their differences show how much equal methods differ here."""
    methods = comparison.methods(decoding)
    if not all(name in methods for name in ALIKE):
        return None
    one, other = (methods[name] for name in ALIKE)
    return _claim(headline(comparison), ALIKE[0], one, other, decoding)


def noise_floor(claim: Claim) -> float:
    """The mean absolute difference between two runs of one seed."""
    return float(np.abs(claim.differences).mean())


def comparable(column: Column, runs: Sequence[Run], reference: Sequence[Run]) -> bool:
    """Whether two rows may be compared in a measure."""
    if column.key in OF_FRONTS and (is_single_point(runs) or is_single_point(reference)):
        return False
    return not (column.by_scorers and (chooses(runs) or chooses(reference)))


def _claim(column: Column, method: str, runs: Sequence[Run], reference: Sequence[Run], decoding: str) -> Claim | None:
    if not comparable(column, runs, reference):
        return None
    ours = {run.pair: value for run in runs if (value := column.read(run, decoding)) is not None}
    theirs = {run.pair: value for run in reference if (value := column.read(run, decoding)) is not None}
    pairs = [(a, theirs[pair]) for pair, a in ours.items() if pair in theirs]
    if not pairs:
        return None
    a_N, b_N = np.array(pairs).T
    improvement = probability_of_improvement([list(ours.values())], [list(theirs.values())])
    differences = tuple((a_N - b_N).tolist())
    return Claim(column.title, method, differences, paired_permutation_test(a_N, b_N), improvement)
