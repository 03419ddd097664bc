"""The seam to the conclusions: what report.html prints first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emorl_bench.indicators.intervals import holm, t_interval
from emorl_bench.report.claims import claims
from emorl_bench.report.comparison import Comparison


class Conclusion(Protocol):
    """Sentences about one comparison."""

    @property
    def found(self) -> Sequence[str]:
        """What the runs show."""

    @property
    def undecided(self) -> Sequence[str]:
        """What the runs do not show."""


@dataclass(frozen=True)
class FromClaims:
    """The tests of report.md as sentences."""

    found: tuple[str, ...]
    undecided: tuple[str, ...]


def from_claims(comparison: Comparison, reference: str) -> FromClaims:
    """One sentence for each method that differs from the reference, and one for all that are undecided."""
    decoding = comparison.decodings()[0]
    found, undecided = [], []
    for family in claims(comparison, decoding, reference):
        unknown = []
        for claim, p in zip(family, holm([claim.p for claim in family]), strict=True):
            difference = t_interval(claim.differences)
            if (verdict := claim.verdict(p)) == "undecided":
                unknown.append(claim.method)
            else:
                found.append(
                    f"{claim.method} is {verdict} than {reference} in {claim.indicator}: {difference.mean:+.3f} "
                    f"± {difference.half_width:.3f} over {claim.pairs} pairs of seeds, p (Holm) {p:.3g}."
                )
        if unknown:
            undecided.append(
                f"In {family[0].indicator}, these runs do not show a difference to {reference} for {', '.join(unknown)}"
                f", and do not show that there is none ({decoding} decoding)."
            )
    return FromClaims(tuple(found), tuple(undecided))
