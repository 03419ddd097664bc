"""The tables of a regret study, written into a Markdown file, so that docs/search.md is generated.

A table has its place between ``<!-- NAME: TABLE -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.record import Options
from emorl_bench.core.errors import UserError

TABLES = ("regret", "over random", "confirmed", "confirmed over not")
OPTION = {"docs": ("", "Markdown file whose tables of this benchmark are written anew")}


def document(given: Options) -> Path | None:
    """The file that ``--docs`` names; None without the option.

    Raises:
        UserError: the file does not exist, or lacks the place of a table.
    """
    if not given.extra["docs"]:
        return None
    path = Path(given.extra["docs"])
    text = path.read_text() if path.is_file() else ""
    for table in TABLES:
        if not _place(given.name, table).search(text):
            raise UserError(f"--docs={path}: no such file, or no place in it: <!-- {given.name}: {table} -->")
    return path


def write_tables(path: Path, name: str, tables: Mapping[str, Sequence[str]]) -> None:
    """Replace the tables of one study in a file."""
    text = path.read_text()
    for table, lines in tables.items():
        written = "\n".join([f"<!-- {name}: {table} -->", "", *lines, "", "<!-- end -->"])
        text = _place(name, table).sub(written.replace("\\", r"\\"), text)
    path.write_text(text)


def _place(name: str, table: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {re.escape(name)}: {re.escape(table)} -->.*?<!-- end -->", re.DOTALL)
