"""The record of a search: ``search.jsonl`` with a row for each blend that was asked about.

A question is one call of a search for some blends; its rows are written together. A kill can leave a part of them: then
the question is dropped, and asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_text
from emorl_bench.core.damage import json_rows

FILE = "search.jsonl"

Row = dict[str, Any]


def take_up(path: Path) -> list[list[Row]]:
    """The rows of every complete question; all else is removed, so that the record can be continued."""
    questions = read_questions(path)
    if path.exists():
        write_text(path, "".join(json.dumps(row) + "\n" for rows in questions for row in rows))
    return questions


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append a question."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def read_questions(path: Path) -> list[list[Row]]:
    """The rows of complete questions, by question.

    An incomplete last question is left out, because its cost is that of all its rows.
    """
    rows, questions, start = json_rows(path), list[list[Row]](), 0
    while start < len(rows) and (end := start + rows[start].get("of", 1)) <= len(rows):
        questions.append(rows[start:end])
        start = end
    return questions


def paid_by_preference(path: Path) -> dict[tuple[float, ...], int]:
    """Prompts that each preference's search has paid for. The first preference that asks about a blend pays for it."""
    paid: dict[tuple[float, ...], int] = {}
    known: set[tuple[str, tuple[float, ...]]] = set()
    for row in (row for rows in read_questions(path) for row in rows):
        key, preference = (row.get("part", "all"), tuple(row["weights"])), tuple(row["preference"])
        paid[preference] = paid.get(preference, 0) + (0 if key in known else row.get("prompts", 0))
        known.add(key)
    return paid
