"""From comparisons to report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.document import overall_table
from emorl_bench.report.html.conclusion import from_claims
from emorl_bench.report.html.page import write_page
from emorl_bench.report.html.payload import page
from emorl_bench.report.read import Unfinished

FILE = "report.html"


def write_html(
    comparisons: Sequence[Comparison],
    unfinished: Sequence[Unfinished],
    roots: Sequence[Path],
    out: Path,
    reference: str,
) -> Path:
    """Write report.html into ``out``; returns its path.

    Args:
        comparisons: the tables of the report.
        unfinished: runs that are in no table.
        roots: the directories that the runs were read from.
        out: an existing directory.
        reference: the method that others are tested against.

    Raises:
        OSError: the file cannot be written.
    """
    overall = {name: table for name in ("greedy", "sampled") if (table := overall_table(comparisons, name)) is not None}
    conclusions = [from_claims(comparison, reference) for comparison in comparisons]
    write_page(out / FILE, page(comparisons, conclusions, unfinished, roots, reference, overall))
    return out / FILE
