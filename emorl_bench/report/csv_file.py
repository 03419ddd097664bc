"""table.csv: every column of every comparison in full precision, for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from emorl_bench.report.columns import FEW, front_columns
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.escape import csv_value
from emorl_bench.report.gold import ceiling_row
from emorl_bench.report.tables import CEILING, all_columns, chooses, is_single_point, ranked


def write_csv(path: Path, comparisons: Sequence[Comparison]) -> None:
    """One row for each comparison, decoding and method, and one for the ceiling. ``_low`` and ``_high`` bound 95 %.

    They are empty for one or two seeds.
    """
    rows: list[dict[str, object]] = []
    for comparison in comparisons:
        for decoding in comparison.decodings():
            rows += _rows(comparison, decoding)
    header = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writerow({key: csv_value(key) for key in header})
        writer.writerows({key: csv_value(value) for key, value in row.items()} for row in rows)


def _rows(comparison: Comparison, decoding: str) -> list[dict[str, object]]:
    columns = [*all_columns(comparison, decoding), *front_columns()]
    rows: list[dict[str, object]] = []
    for name, runs in ranked(comparison, decoding):
        row = _identity(comparison, decoding, name) | {
            "kl_coefficient": "" if runs[0].kl_coefficient is None else runs[0].kl_coefficient,
            "single_point": is_single_point(runs),
            "chooses_with_scorers": chooses(runs),
            "seeds": len(runs),
        }
        for column in columns:
            if (interval := column.over_seeds(runs, decoding)) is not None:
                row[column.key] = interval.mean
                if interval.n >= FEW:
                    row |= {f"{column.key}_low": interval.low, f"{column.key}_high": interval.high}
        rows.append(row)
    if best := ceiling_row(comparison):
        rows.append(_identity(comparison, decoding, CEILING) | best)
    return rows


def _identity(comparison: Comparison, decoding: str, method: str) -> dict[str, object]:
    where = {"task": comparison.task, "model": comparison.model, "fingerprint": comparison.fingerprint}
    return {**where, "decoding": decoding, "method": method}
