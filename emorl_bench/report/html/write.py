"""From comparisons to report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.conclusion import conclude, conclude_together
from emorl_bench.report.document import overall_table
from emorl_bench.report.html.explained import explained_runs
from emorl_bench.report.html.explained_file import Told
from emorl_bench.report.html.page import write_page
from emorl_bench.report.html.payload import page
from emorl_bench.report.published import Published
from emorl_bench.report.read import Unfinished

FILE = "report.html"


def write_html(
    comparisons: Sequence[Comparison],
    unfinished: Sequence[Unfinished],
    roots: Sequence[Path],
    out: Path,
    reference: str | None = None,
    told: Sequence[Told] = (),
    paper: Published | None = None,
) -> Path:
    """Write report.html into ``out``; returns its path.

    Args:
        comparisons: the tables of the report.
        unfinished: runs that are in no table.
        roots: where the runs were read from: directories, or packed files.
        out: an existing directory.
        reference: the row that others are compared with (`reference_row`).
        told: explained answers, for the part that says which expert decided each word.
        paper: published figures to set beside the runs.

    Raises:
        OSError: the file cannot be written.
    """
    overall = {name: table for name in ("greedy", "sampled") if (table := overall_table(comparisons, name)) is not None}
    conclusions = [conclude(comparison, reference) for comparison in comparisons]
    together = conclude_together(comparisons, reference)
    explained = explained_runs(told, comparisons)
    content = page(comparisons, conclusions, unfinished, roots, reference, overall, together, explained, paper)
    write_page(out / FILE, content)
    return out / FILE
