"""What the runs show, in sentences. Each one is produced from a test (`report.verdicts`), and none is written by hand.

The verdicts of one conclusion are corrected together: of 20 conclusions, at most one has a false sentence in
``found``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emorl_bench.indicators.differences import unseen_share
from emorl_bench.indicators.intervals import smallest_p
from emorl_bench.report.aggregate import together, verdicts_over_tasks
from emorl_bench.report.claims import ALIKE, alike, noise_floor, verdicts
from emorl_bench.report.columns import headline
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.reference import reference_row
from emorl_bench.report.verdicts import FEWEST, MARGIN, Verdict, pairs_needed


@dataclass(frozen=True)
class Conclusion:
    """``found``: what is claimed. ``undecided``: what is not, and why. Plain text, one sentence or two in each item."""

    found: tuple[str, ...]
    undecided: tuple[str, ...]


def conclude(comparison: Comparison, wanted: str | None = None) -> Conclusion:
    """The conclusion of one comparison: every method against the reference, by the headline.

    ``wanted``: the reference, as in `reference_row`.
    """
    reference, decoding = reference_row(comparison, wanted), comparison.decodings()[0]
    measure = f"{headline(comparison).title} under {decoding} decoding"
    if reference is None:
        return Conclusion((), (f"Nothing was compared: {wanted} was not run here.",))
    said = sentences(verdicts(comparison, reference), reference, measure)
    return Conclusion(said.found, (*said.undecided, *_noise(comparison, decoding)))


def conclude_together(comparisons: Sequence[Comparison], wanted: str | None = None) -> Conclusion | None:
    """The conclusion over all tasks that have normalised gold; None where there are fewer than two."""
    decoding = comparisons[0].decodings()[0] if comparisons else ""
    known = together(comparisons, decoding)
    if len(known) < 2:
        return None
    found, measure = verdicts_over_tasks(known, decoding, wanted), f"normalised gold under {decoding} decoding"
    return sentences(found, reference_row(known[0], wanted) or str(wanted), f"{measure}, mean over {len(known)} tasks")


def sentences(found: Sequence[Verdict], reference: str, measure: str) -> Conclusion:
    """Verdicts as sentences: first the differences, the largest first, then what is equal, then what is open."""
    if not found:
        return Conclusion((), (f"Nothing was compared: no other method has runs with the seeds of {reference}.",))
    by_size = sorted(found, key=lambda verdict: (-abs(verdict.difference.mean), verdict.method))
    differ = [_difference(verdict, reference, measure) for verdict in by_size if verdict.word in ("higher", "lower")]
    equal = [_equality(verdict, reference, measure) for verdict in by_size if verdict.word == "equal"]
    return Conclusion((*differ, *equal), tuple(_open(by_size, reference, measure)))


def _difference(verdict: Verdict, reference: str, measure: str) -> str:
    size, low, high = verdict.difference.mean, verdict.difference.low, verdict.difference.high
    test = "" if verdict.exact else " of a t test"
    small = f"; the difference is smaller than {MARGIN}" if verdict.equal else ""
    return (
        f"{verdict.method} is {verdict.word} than {reference} in {measure}: {size:+.3f} (95 % interval {low:+.3f} to "
        f"{high:+.3f}, corrected p {verdict.corrected:.2g}{test}, {verdict.pairs} pairs of runs{small})."
    )


def _equality(verdict: Verdict, reference: str, measure: str) -> str:
    size, low, high = verdict.difference.mean, verdict.within.low, verdict.within.high
    return (
        f"{verdict.method} and {reference} are equal within {MARGIN} in {measure}: {size:+.3f} (90 % interval "
        f"{low:+.3f} to {high:+.3f}, corrected p {verdict.corrected_equal:.2g}, {verdict.pairs} pairs of runs). A "
        f"failure that strikes fewer than {unseen_share(verdict.pairs):.0%} of runs may not have been seen."
    )


def _open(by_size: Sequence[Verdict], reference: str, measure: str) -> Iterator[str]:
    undecided = [verdict for verdict in by_size if verdict.word == "undecided"]
    if undecided:
        listed = "; ".join(_with_interval(verdict) for verdict in undecided)
        yield (
            f"Undecided against {reference} in {measure}, with 95 % intervals: {listed}. These runs show neither a "
            "difference nor equality."
        )
    if few := [verdict.method for verdict in by_size if verdict.pairs < FEWEST]:
        named = "" if len(few) == len(by_size) else f": {', '.join(few)}"
        yield f"Nothing is claimed from fewer than {FEWEST} pairs of runs{named}."
    if assumed := [verdict.pairs for verdict in by_size if verdict.pairs >= FEWEST and not verdict.exact]:
        yield (
            f"Differences from {max(assumed)} pairs of runs or fewer are tested by t tests, which assume that they are "
            f"about normal: a test without this assumption has p of at least {smallest_p(max(assumed)):.2g}, and "
            f"{len(by_size)} methods are tested. {pairs_needed(len(by_size))} pairs need no assumption."
        )


def _with_interval(verdict: Verdict) -> str:
    if verdict.pairs < 3:
        return f"{verdict.method} {verdict.difference.mean:+.3f}"
    low, high = verdict.difference.low, verdict.difference.high
    return f"{verdict.method} {verdict.difference.mean:+.3f} ({low:+.3f} to {high:+.3f})"


def _noise(comparison: Comparison, decoding: str) -> Iterator[str]:
    if (claim := alike(comparison, decoding)) is not None:
        yield (
            f"Noise: {' and '.join(ALIKE)} differ by rounding alone, and two of their runs with one seed still by "
            f"{noise_floor(claim):.3f} on average. A difference of this size between two single runs shows nothing."
        )
