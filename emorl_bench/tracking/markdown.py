"""Tables as Markdown, for views that show text. What models have written is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~-])")


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows; the columns are all keys, in the order in which they first come."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = html.escape(" ".join(str(value).split()), quote=False)
    return SPECIAL.sub(r"\\\1", text)
