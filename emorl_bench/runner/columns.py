"""Plain text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], columns: int | None = None) -> list[str]:
    """A line for each row, with the first ``columns`` cells padded to the width of their column; None: all cells."""
    count = len(rows[0]) if columns is None else columns
    widths = [max(len(row[column]) for row in rows) for column in range(count)]
    return ["  ".join(row[c].ljust(widths[c]) for c in range(count)).rstrip() for row in rows]
