"""The row that the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.report.comparison import Comparison

USUAL = ("emorl", "base")  # without --reference: the first of these that was run, else the first row by name


def reference_row(comparison: Comparison, wanted: str | None = None) -> str | None:
    """The row that ``wanted`` names: a row, or a method, of which the first row by name is taken.

    None where the comparison has no such row. Without ``wanted`` it is one of `USUAL`, or else the first row by name.
    It never depends on scores: the best of many would be compared with luck.
    """
    rows = sorted({(run.method, run.family) for run in comparison.runs})
    for name in USUAL if wanted is None else (wanted,):
        if found := [row for row, family in rows if name == row] or [row for row, family in rows if name == family]:
            return found[0]
    return rows[0][0] if wanted is None else None


def check_reference(comparisons: Sequence[Comparison], wanted: str | None) -> None:
    """Refuse a reference that no comparison has.

    Raises:
        UserError: with the nearest name.
    """
    if not any(reference_row(comparison, wanted) for comparison in comparisons):
        known = {name for comparison in comparisons for run in comparison.runs for name in (run.method, run.family)}
        raise UserError(f"--reference {wanted}: no run of this method{did_you_mean(str(wanted), known)}")
