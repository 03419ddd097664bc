"""The tables of what was compared: verdicts, other measures, the noise floor, prompts."""

from __future__ import annotations

import numpy as np

from emorl_bench.indicators.intervals import hierarchical_bootstrap, t_interval
from emorl_bench.report.claims import ALIKE, alike, claims, headline_claims, noise_floor, verdicts
from emorl_bench.report.columns import headline, share, signed
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.tables import Table, chooses
from emorl_bench.report.verdicts import MARGIN
from emorl_bench.report.wins import win_rate

RESAMPLES = 1000


def verdict_table(comparison: Comparison, reference: str | None) -> Table | None:
    """The headline under the first decoding: the difference, both tests, and the verdict of each method."""
    decoding = comparison.decodings()[0]
    found, methods = verdicts(comparison, reference), comparison.methods(decoding)
    improvement = {claim.method: claim.improvement for claim in headline_claims(comparison, decoding, reference)}
    rows = []
    for one in found:
        wins = win_rate(comparison, methods[one.method], methods[str(reference)], decoding)
        p = (f"{value:.3g}" for value in (one.p, one.corrected, one.corrected_equal))
        shares = (share(improvement[one.method]), "–" if wins is None else share(wins))
        rows.append((one.method, str(one.pairs), signed(one.difference), *p, *shares, one.word))
    header = ("method", "pairs", f"minus {reference}", "p", "p (corrected)", f"p of equality ± {MARGIN} (corrected)")
    more = ("P(improvement)", "better on equal prompts", "the method is")
    return Table((*header, *more), tuple(rows)) if rows else None


def others_table(comparison: Comparison, decoding: str, reference: str | None) -> Table | None:
    """Differences in all measures about which nothing is claimed."""
    claimed = headline(comparison).title if decoding == comparison.decodings()[0] else ""
    rows = [
        (one.indicator, one.method, str(one.pairs), signed(t_interval(one.differences)), share(one.improvement))
        for family in claims(comparison, decoding, reference)
        for one in family
        if one.indicator != claimed
    ]
    header = ("indicator", "method", "pairs", f"minus {reference}", "P(improvement)")
    return Table(header, tuple(rows)) if rows else None


def alike_table(comparison: Comparison, decoding: str) -> Table | None:
    """The A/A row."""
    if (claim := alike(comparison, decoding)) is None:
        return None
    difference = signed(t_interval(claim.differences))
    row = (" − ".join(ALIKE), claim.indicator, str(claim.pairs), difference, f"{noise_floor(claim):.3f}")
    header = ("A/A", "indicator", "pairs", "difference", "mean absolute difference", "P(improvement)")
    return Table(header, ((*row, share(claim.improvement)),))


def bootstrap_table(comparison: Comparison, decoding: str) -> Table | None:
    """Gold mean, or else mean reward, with a hierarchical bootstrap over seeds and report prompts."""
    gold, rows = has_gold(comparison), []
    for method, runs in sorted(comparison.methods(decoding).items()):
        by_prompt = [scores for run in runs if (scores := comparison.rewards(run, decoding, "gold/" * gold))]
        if not by_prompt or (chooses(runs) and headline(comparison).by_scorers):
            continue
        prompts = sorted(set.intersection(*(set(scores) for scores in by_prompt)))
        values_NP = np.array([[scores[prompt] for prompt in prompts] for scores in by_prompt])
        interval = hierarchical_bootstrap(values_NP, np.random.default_rng(0), RESAMPLES)
        bounds = f"{interval.low:.3f} to {interval.high:.3f}"
        rows.append((method, str(len(by_prompt)), str(len(prompts)), f"{interval.mean:.3f}", bounds))
    header = ("method", "seeds", "prompts", "gold mean" if gold else "mean reward", "95 % interval")
    return Table(header, tuple(rows)) if rows else None
