"""From paired differences to verdicts: each method against one reference is higher, lower, equal or undecided.

This is the only place where a report decides something. Two hypotheses are tested for each method: that it differs in
nothing from the reference, and that its mean differs by at least `MARGIN` (two one-sided t tests). At most one of the
two is true, which Holm's correction over all of them takes into account (`indicators.intervals.holm`). So the chance
that a set of verdicts has a false one is at most `LEVEL`.

A difference is tested by an exact permutation of the pairs, which assumes nothing of their distribution. With few pairs
no permutation test can reach the corrected level: five pairs have p >= 0.0625. There a t test decides. It assumes
differences that are about normal, and every sentence says so. The number of pairs and of methods chooses the test, and
never the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.indicators.differences import Floats, equivalence_p, estimate, permutation_p, t_test_p
from emorl_bench.indicators.intervals import Interval, holm, smallest_p

LEVEL = 0.05  # of all false verdicts of one set together
MARGIN = 0.02  # scores that differ by less count as equal
FEWEST = 5  # pairs below which nothing is claimed: a few runs that agree say little of the others


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
    exact: bool
    """Whether p is that of the permutation test; else of the t test."""

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
        shown = self.difference.low > 0 or self.difference.high < 0
        if self.pairs >= FEWEST and self.corrected <= LEVEL and shown:
            return "higher" if self.difference.mean > 0 else "lower"
        return "equal" if self.equal else "undecided"


def decide(evidence: Sequence[Evidence], margin: float = MARGIN) -> list[Verdict]:
    """The verdicts on several methods against one reference, in the given order."""
    found = [estimate(one.differences_T) for one in evidence]
    exact = [len(evidence) * smallest_p(one.pairs) <= LEVEL for one in found]
    p = [
        permutation_p(one.differences_T) if permuted else t_test_p(one.differences_T)
        for one, permuted in zip(evidence, exact, strict=True)
    ]
    p_equal = [equivalence_p(one.differences_T, margin) for one in evidence]
    corrected = holm([*p, *p_equal], most_true=len(evidence))
    halves = corrected[: len(evidence)], corrected[len(evidence) :]
    tests = zip(p, halves[0], p_equal, halves[1], exact, strict=True)
    return [
        Verdict(one.method, mean.interval(), mean.interval(0.9), *test)
        for one, mean, test in zip(evidence, found, tests, strict=True)
    ]


def pairs_needed(methods: int) -> int:
    """The fewest pairs with which a permutation test can show a difference while ``methods`` methods are tested."""
    return next(pairs for pairs in range(1, 64) if methods * smallest_p(pairs) <= LEVEL)
