"""The record of a search: ``search.jsonl`` with a row for each blend, ``scored.jsonl`` with what scorers have said.

A question is one call of a search for some blends; its rows are written together. A kill can leave a part of them: then
the question is dropped, and asked again. ``scored.jsonl`` has a line for each question with the scores that were new in
it. With them the panel's cache is what it was, so a resumed run asks its scorers as often as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_text

FILE, SCORED = "search.jsonl", "scored.jsonl"

Row = dict[str, Any]


def read_only(directory: Path) -> tuple[list[list[Row]], list[Any]]:
    """The rows of every complete question, and what scorers have said of their texts."""
    questions = read_questions(directory / FILE)
    return questions, [entry for line in _lines(directory / SCORED)[: len(questions)] for entry in line]


def take_up(directory: Path) -> tuple[list[list[Row]], list[Any]]:
    """As `read_only`; and all else is removed, so that the record can be continued."""
    questions = read_questions(directory / FILE)
    said = _lines(directory / SCORED)[: len(questions)]
    said += [[]] * (len(questions) - len(said))  # an older record has none
    for name, lines in ((FILE, [row for rows in questions for row in rows]), (SCORED, said)):
        if (directory / name).exists() or lines:
            write_text(directory / name, "".join(json.dumps(line) + "\n" for line in lines))
    return questions, [entry for line in said for entry in line]


def append(directory: Path, rows: Sequence[Row], said: Sequence[Any] | None) -> None:
    """Append a question. What scorers have said is written first; without its question it is removed by `take_up`."""
    if said is not None:
        with (directory / SCORED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(list(said)) + "\n")
    with (directory / FILE).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def read_questions(path: Path) -> list[list[Row]]:
    """The rows of complete questions, by question.

    An incomplete last question is left out, because its cost is that of all its rows.
    """
    rows, questions, start = _lines(path), list[list[Row]](), 0
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


def _lines(path: Path) -> list[Any]:
    """The complete lines of a file; a kill can leave half a line at the end."""
    text = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]
