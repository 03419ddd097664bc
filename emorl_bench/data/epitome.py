"""EPITOME: answers to posts of people in distress, rated for how much emotional reaction they show.

Source: github.com/behavioral-data/Empathy-Mental-Health, ``dataset/emotional-reactions-reddit.csv`` (academic use with
attribution; text from Reddit); Sharma et al., "A Computational Approach to Understanding Empathy Expressed in
Text-Based Mental Health Support" (EMNLP 2020).
Layout: comma-separated with header: sp_id, rp_id, seeker_post, response_post, level (0 none, 1 weak, 2 strong),
rationales.
Size: 3,084 answers to 2,979 posts; levels 2,037 / 895 / 152.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.data.notices import LeftOut, say_repeated
from emorl_bench.data.reading import whole
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "epitome/emotional-reactions-reddit.csv"
ABOUT = (
    "EPITOME (academic use with attribution) is dataset/emotional-reactions-reddit.csv of "
    "github.com/behavioral-data/Empathy-Mental-Health"
)
COLUMNS = ("sp_id", "seeker_post", "response_post", "level")
LEVELS = (0, 1, 2)
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


@dataclass(frozen=True)
class Row:
    """A post, an answer to it, and how much emotional reaction the answer shows: 0, 1 or 2."""

    seeker_id: str
    seeker: str
    response: str
    level: int


def load(source: Source) -> list[Row]:
    """All answers in file order, white space normalised. Rows without a post or an answer are left out.

    The log counts these, and rows that repeat a post and its answer (several people have rated them).

    Raises:
        UserError: the file is missing or broken, or a level is none of 0, 1, 2.
    """
    found, empty = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT):
        seeker, response = (" ".join(row[name].split()) for name in ("seeker_post", "response_post"))
        level = whole(row["level"], LEVELS, f"task.data_dir: {source.file}: row {number}: level")
        if seeker and response:
            found.append(Row(row["sp_id"], seeker, response, level))
        else:
            empty.add(number, "without a post or an answer")
    empty.say()
    say_repeated(source, source.file, (((row.seeker, row.response), row.level) for row in found), "level")
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by post.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda row: row.seeker_id, SHARES, seed, text=lambda row: row.seeker)
