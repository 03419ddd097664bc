"""Every contrast of a question on the runs of its sweep, and what the tests say of it, corrected together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from scipy.special import ndtri  # the standard normal quantile; scipy.stats takes a second to import

from emorl_bench.core.errors import UserError
from emorl_bench.indicators.differences import Floats, estimate
from emorl_bench.indicators.intervals import Interval
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.read import Run
from emorl_bench.report.selection import where
from emorl_bench.report.verdicts import LEVEL, MARGIN, Evidence, Verdict, decide
from studies.claims.claims import UNDECIDED, Contrast, Question
from studies.claims.measures import (
    DECODING,
    DOUBLINGS,
    KL_AT_EQUAL_GOLD,
    MEASURES,
    doublings_at_equal_gold,
)

POWER = 0.8  # with which the number of seeds that would decide finds what the present ones suggest


@dataclass(frozen=True)
class Decided:
    """A contrast with its evidence: differences of each cell in the measure's own unit, and the verdict on them."""

    contrast: Contrast
    differences_T: tuple[Floats, ...]
    verdict: Verdict
    margin: float
    tests: int
    """Contrasts that were corrected together."""

    @property
    def difference(self) -> Interval:
        """Mean over cells, with a 95 % interval."""
        return estimate(self.differences_T).interval()

    @property
    def seeds(self) -> int:
        """Pairs of the cell that has the fewest."""
        return min(values.size for values in self.differences_T)

    @property
    def seeds_needed(self) -> int | None:
        """Seeds of each cell that would probably decide; None where it is decided, or where nothing spreads."""
        found = estimate(self.differences_T)
        if self.verdict.word != UNDECIDED or not found.error > 0:
            return None
        spread = found.error * math.sqrt(self.seeds)
        return seeds_needed(found.mean, spread, self.margin, LEVEL / self.tests)


def seeds_needed(difference: float, spread: float, margin: float, level: float) -> int:
    """Seeds with which a true ``difference`` is shown, or shown to be within ``margin``, with a chance of `POWER`.

    Normal approximation. ``spread``: the standard error for one seed of each cell. The smaller of the two numbers.
    """
    shown = _seeds(ndtri(1 - level / 2) + ndtri(POWER), spread, abs(difference))
    equal = _seeds(ndtri(1 - level) + ndtri((1 + POWER) / 2), spread, margin - abs(difference))
    return math.ceil(min(shown, equal))


def _seeds(quantiles: float, spread: float, distance: float) -> float:
    return (quantiles * spread / distance) ** 2 if distance > 0 else math.inf


def decided(question: Question, runs: Sequence[Run]) -> list[Decided]:
    """The contrasts of the claims in their order, then every row against those of ``question.against``, each pair once.

    A contrast without pairs is left out.
    """
    contrasts = [contrast for claim in question.claims for contrast in claim.contrasts]
    asked = {(frozenset((one.ours, one.theirs)), one.measure) for one in contrasts if not one.where}
    others = _against(question, comparisons(runs))
    contrasts += [one for one in others if (frozenset((one.ours, one.theirs)), one.measure) not in asked]
    gathered = [(contrast, differences(contrast, runs)) for contrast in contrasts]
    found = [(contrast, pairs_T) for contrast, pairs_T in gathered if pairs_T]
    margins = [margin_of(contrast) for contrast, _ in found]
    scaled = [
        Evidence(contrast.ours, tuple(values * MARGIN / margin for values in pairs_T))
        for (contrast, pairs_T), margin in zip(found, margins, strict=True)
    ]
    verdicts = decide(scaled)
    return [
        Decided(contrast, pairs_T, verdict, margin, len(found))
        for (contrast, pairs_T), verdict, margin in zip(found, verdicts, margins, strict=True)
    ]


def margin_of(contrast: Contrast) -> float:
    """The difference below which the two sides of a contrast count as equal."""
    return DOUBLINGS if contrast.measure == KL_AT_EQUAL_GOLD else MEASURES[contrast.measure].margin


def _against(question: Question, cells: Sequence[Comparison]) -> list[Contrast]:
    """Every row that all cells have against the rows that the question names."""
    rows = set.intersection(*(set(cell.methods(DECODING)) for cell in cells)) if cells else set()
    references = [row for row in question.against if row in rows]
    return [
        Contrast(row, theirs, question.measure)
        for i, theirs in enumerate(references)
        for row in sorted(rows - set(references[: i + 1]))
    ]


def differences(contrast: Contrast, runs: Sequence[Run]) -> tuple[Floats, ...]:
    """Differences of pairs, an array for each cell that has both sides; empty where a cell lacks one."""
    try:
        kept = where(runs, contrast.where)
    except UserError:
        return ()
    found = [_of_cell(contrast, cell) for cell in comparisons(kept)]
    return tuple(found) if found and all(values.size for values in found) else ()


def _of_cell(contrast: Contrast, cell: Comparison) -> Floats:
    ours = _side(cell, contrast.ours)
    if isinstance(contrast.theirs, float | int):
        read = MEASURES[contrast.measure].of(cell, ())
        values = [value for run in ours if (value := read(run, DECODING)) is not None]
        return np.array(values) - contrast.theirs
    theirs = _side(cell, contrast.theirs)
    if contrast.measure == KL_AT_EQUAL_GOLD:
        return np.array(list(doublings_at_equal_gold(cell, ours, theirs).values()))
    read = MEASURES[contrast.measure].of(cell, theirs)
    others = {run.pair: value for run in theirs if (value := read(run, DECODING)) is not None}
    pairs = [
        value - others[run.pair] for run in ours if run.pair in others and (value := read(run, DECODING)) is not None
    ]
    return np.array(pairs)


def _side(cell: Comparison, name: str) -> list[Run]:
    """The runs of a row, of a pattern of rows, or of all rows of a method."""
    return [run for run in cell.runs if name in (run.method, run.family) or fnmatchcase(run.method, name)]
