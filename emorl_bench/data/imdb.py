"""IMDB: film reviews with a sentiment, positive or negative.

Source: Large Movie Review Dataset v1.0, ai.stanford.edu/~amaas/data/sentiment (free for research with citation); Maas
et al., "Learning Word Vectors for Sentiment Analysis" (ACL 2011).
Layout: one json object a line: text (line breaks are ``<br />``), label (pos, neg, or 1, 0), stars (1 to 10, may be
missing). ``train.jsonl`` and ``test.jsonl`` have no film in common.
Size: 25,000 reviews each, balanced; any subset will do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import LeftOut, quoted, say_repeated
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "imdb/train.jsonl"
TEST_FILE = "imdb/test.jsonl"
ABOUT = (
    "IMDB (research use with citation) is the Large Movie Review Dataset of ai.stanford.edu/~amaas/data/sentiment, "
    'written as json lines {"text": …, "label": "pos" or "neg"}'
)
COLUMNS = ("text", "label")
LABELS = {"pos": 1, "neg": 0, "1": 1, "0": 0}
BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


@dataclass(frozen=True)
class Row:
    """A review as plain text in one line; label 1 is positive; stars are 1 to 10, None where not given."""

    text: str
    label: int
    stars: int | None


def load(source: Source) -> list[Row]:
    """All labelled reviews in file order, without empty ones; the log counts these, and repeated reviews.

    Raises:
        UserError: the file is missing or broken, or a label is none of pos, neg, 1, 0.
    """
    found, empty = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT, optional=("stars",)):
        label = row["label"].strip().casefold()
        if label not in LABELS:
            raise UserError(
                f"task.data_dir: {source.file}: row {number}: label is {quoted(label)}; give one of {', '.join(LABELS)}"
            )
        stars = row.get("stars", "").strip()
        if text := " ".join(BREAK.sub(" ", row["text"]).split()):
            found.append(Row(text, LABELS[label], int(stars) if stars.isdecimal() else None))
        else:
            empty.add(number, "without a text")
    empty.say()
    say_repeated(source, source.file, ((row.text, row.label) for row in found), "label")
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by review.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda row: row.text, SHARES, seed)
