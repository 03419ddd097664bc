"""How often a method's answer is better than the reference's answer to the same prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emorl_bench.indicators.intervals import Interval, hierarchical_bootstrap
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run

RESAMPLES = 1000
SMALLEST = 1e-9  # two scores that differ by less are a tie


def win_rate(comparison: Comparison, runs: Sequence[Run], reference: Sequence[Run], decoding: str) -> Interval | None:
    """Share of the report prompts on which a run beats its pair, at the uniform preference; a tie counts one half.

    By gold where there is gold, else by reward. The interval is a hierarchical bootstrap over seeds and prompts. None
    where no pair of runs has scores for each prompt.
    """
    prefix = "gold/" * has_gold(comparison)
    theirs = {run.pair: comparison.rewards(run, decoding, prefix) for run in reference}
    found = [(comparison.rewards(run, decoding, prefix), theirs[run.pair]) for run in runs if run.pair in theirs]
    pairs = [(a, b) for a, b in found if a.keys() & b.keys()]
    if not pairs:
        return None
    prompts = sorted(set().union(*(a.keys() & b.keys() for a, b in pairs)))
    gaps_NP = np.array([[a.get(p, np.nan) - b.get(p, np.nan) for p in prompts] for a, b in pairs])
    wins_NP = np.where(np.isnan(gaps_NP), np.nan, (gaps_NP > SMALLEST) + 0.5 * (np.abs(gaps_NP) <= SMALLEST))
    return hierarchical_bootstrap(wins_NP, np.random.default_rng(0), RESAMPLES)
