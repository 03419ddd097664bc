r"""``--latex``: the tables of a comparison as LaTeX, to be read with ``\input``; they need the package booktabs."""

from __future__ import annotations

from pathlib import Path

from emorl_bench.report.claim_tables import verdict_table
from emorl_bench.report.columns import cost_columns, gold_columns, quality_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.escape import latex
from emorl_bench.report.gold import has_gold
from emorl_bench.report.tables import Table, results_table


def write_latex(comparison: Comparison, out: Path, reference: str | None) -> list[Path]:
    """One file for each decoding with the scores, one with the costs, and one with the verdicts."""
    tables: dict[str, tuple[Table, str]] = {}
    for decoding in comparison.decodings():
        columns = gold_columns(comparison, decoding) if has_gold(comparison) else quality_columns(comparison)
        caption = f"{comparison.title}, {decoding} decoding: mean over seeds, ± half of the 95 % interval."
        tables[f"{decoding}_scores"] = results_table(comparison, decoding, columns), caption
    costs = results_table(comparison, comparison.decodings()[0], cost_columns())
    tables["costs"] = costs, f"{comparison.title}: cost of training, search and validation."
    if (tested := verdict_table(comparison, reference)) is not None:
        tables["verdicts"] = tested, f"{comparison.title}, {comparison.decodings()[0]} decoding, against {reference}."
    paths = []
    for name, (table, caption) in tables.items():
        paths.append(out / f"{comparison.stem}_{name}.tex")
        paths[-1].write_text(latex_table(table, caption, f"tab:{comparison.stem}_{name}"), encoding="utf-8")
    return paths


def latex_table(table: Table, caption: str, label: str) -> str:
    """A table with its caption. Like the other forms, it has the names on the left and the numbers on the right."""
    rows = [" & ".join(map(latex, cells)) + r" \\" for cells in (table.header, *table.rows)]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{latex(caption)}}}", rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule", rows[0], r"\midrule", *rows[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
