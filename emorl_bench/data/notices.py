"""What readers of corpora tell: the place of a problem in a file, and what was left out or is odd, each said once."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

SHOWN, LISTED = 40, 5  # characters of a text, and rows, that a message shows

log = logging.getLogger(__name__)


@lru_cache(maxsize=10_000)
def warn_once(where: Hashable, text: str) -> None:
    """Log a warning once in a process, because a run reads its corpus more than once.

    ``where`` tells corpora with equal warnings apart.
    """
    log.warning("%s", text)


def at(path: Path, row: int | None = None) -> str:
    """The beginning of a message about a file, or about one of its rows."""
    return f"task.data_dir: {path}" if row is None else f"task.data_dir: {path}: row {row}"


def quoted(text: str) -> str:
    """The beginning of a text for a message of one line, without characters that a terminal would act on."""
    return ascii(text.strip()[:SHOWN])


def listed(rows: list[int]) -> str:
    """Numbers of rows; of many, the first ones."""
    shown = ", ".join(map(str, rows[:LISTED]))
    return f"row{'s' * (len(rows) > 1)} {shown}{', …' * (len(rows) > LISTED)}"


@dataclass
class LeftOut:
    """Rows that a loader leaves out, by reason.

    Attributes:
        where: tells corpora apart (`warn_once`).
        file: names the corpus in the message.
    """

    where: Hashable
    file: str
    rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, reason: str) -> None:
        """Count a row."""
        self.rows.setdefault(reason, []).append(number)

    def say(self) -> None:
        """Log the number of rows and the first of them, one line for each reason."""
        for reason, rows in self.rows.items():
            warn_once(self.where, f"{self.file}: {len(rows)} left out, {reason} ({listed(rows)})")


def say_repeated(where: Hashable, file: str, labelled: Iterable[tuple[Hashable, Hashable]], label: str) -> None:
    """Log how many rows repeat the texts of an earlier row, and how many of these have another label.

    Such rows are kept: a file with a row for each annotator gives a text as often as it was annotated.

    Args:
        where: see `warn_once`.
        file: names the corpus in the message.
        labelled: the texts and the label of each row.
        label: what the label is called.
    """
    first: dict[Hashable, Hashable] = {}
    repeated = contradicting = 0
    for texts, value in labelled:
        if texts in first:
            repeated += 1
            contradicting += first[texts] != value
        first.setdefault(texts, value)
    if repeated:
        warn_once(
            where,
            f"{file}: {repeated} rows repeat the texts of an earlier row, {contradicting} of them with another "
            f"{label}; all are kept",
        )
