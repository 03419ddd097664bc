"""Psych8k: questions of clients and answers of therapists, written from recorded counselling sessions.

Source: Liu et al. 2023, "ChatCounselor" (2309.15461); on the hub ``EmoCareAI/Psych8k`` (CC BY-NC-SA 4.0), whose file is
``Alexander_Street_shareGPT_2.0.json``. One has to ask for access and may not pass it on, so this project does not: its
tests write a small file of the same layout.
Layout: a json list of objects: instruction (the same for most rows), input (the client), output (the therapist).
Size: 8,187 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.data.notices import LeftOut
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "psych8k/Alexander_Street_shareGPT_2.0.json"
ABOUT = "Psych8k (CC BY-NC-SA 4.0, on request) is Alexander_Street_shareGPT_2.0.json of the hub's EmoCareAI/Psych8k"
COLUMNS = ("instruction", "input", "output")
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


@dataclass(frozen=True)
class Row:
    """The therapist's instruction, what the client said, and the therapist's answer."""

    instruction: str
    input: str
    output: str


def load(source: Source) -> list[Row]:
    """All rows in which the client says something, in file order, white space normalised.

    The log counts the other rows.

    Raises:
        UserError: the file is missing or broken.
    """
    found, silent = [], LeftOut(source, source.file)
    for number, texts in read(source, COLUMNS, ABOUT):
        row = Row(*(" ".join(texts[name].split()) for name in COLUMNS))
        if row.input:
            found.append(row)
        else:
            silent.add(number, "in which the client says nothing")
    silent.say()
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by what the client said. ``select`` and ``report`` train no scorer."""
    return divide(rows, lambda row: row.input, SHARES, seed)
