"""From paired differences to verdicts: each method against one reference is higher, lower, equal or undecided.

This is the only place where a report decides something. Two hypotheses are tested for each method: that it differs in
nothing from the reference (a permutation test of the pairs), and that its mean differs by at least `MARGIN` (two
one-sided t tests). At most one of the two is true, which Holm's correction over all of them takes into account
(`indicators.intervals.holm`). So the chance that a set of verdicts has a false one is at most `LEVEL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.indicators.differences import Floats, equivalence_p, estimate, permutation_p
from emorl_bench.indicators.intervals import Interval, holm, smallest_p

LEVEL = 0.05  # of all false verdicts of one set together
MARGIN = 0.02  # scores that differ by less count as equal
FEWEST = 5  # pairs below which nothing is called equal: a few runs that agree say little of the others


@dataclass(frozen=True)
class Evidence:
    """What is known of one method: its differences to the reference, one array for each task."""

    method: str
    differences_T: tuple[Floats, ...]


@dataclass(frozen=True)
class Verdict:
    """One method against the reference. Both p values are corrected for all tests of the set."""

    method: str
    difference: Interval
    """Mean over tasks, with a 95 % t interval."""
    within: Interval
    """The same with a 90 % interval, which lies within ± MARGIN where the test of equality rejects."""
    p: float
    corrected: float
    p_equal: float
    corrected_equal: float

    @property
    def pairs(self) -> int:
        """Pairs of runs, over all tasks."""
        return self.difference.n

    @property
    def equal(self) -> bool:
        """Whether the mean difference is shown to be smaller than MARGIN."""
        return self.pairs >= FEWEST and self.corrected_equal <= LEVEL

    @property
    def word(self) -> str:
        """``higher``, ``lower``, ``equal`` or ``undecided``. A difference that is shown counts, however small."""
        if self.corrected <= LEVEL and (self.difference.low > 0 or self.difference.high < 0):
            return "higher" if self.difference.mean > 0 else "lower"
        return "equal" if self.equal else "undecided"


def decide(evidence: Sequence[Evidence], margin: float = MARGIN) -> list[Verdict]:
    """The verdicts on several methods against one reference, in the given order."""
    p = [permutation_p(one.differences_T) for one in evidence]
    p_equal = [equivalence_p(one.differences_T, margin) for one in evidence]
    corrected = holm([*p, *p_equal], most_true=len(evidence))
    verdicts = []
    for i, one in enumerate(evidence):
        found = estimate(one.differences_T)
        equal = corrected[len(evidence) + i]
        verdicts.append(
            Verdict(one.method, found.interval(), found.interval(0.9), p[i], corrected[i], p_equal[i], equal)
        )
    return verdicts


def pairs_needed(methods: int) -> int:
    """The fewest pairs with which a difference can be shown while ``methods`` methods are tested."""
    return next(pairs for pairs in range(1, 64) if methods * smallest_p(pairs) <= LEVEL)
