r"""HH-RLHF: dialogues with an assistant, two answers to the last turn, and which of them people chose.

Source: github.com/anthropics/hh-rlhf (MIT), directories ``harmless-base`` and ``helpful-base``; Bai et al. 2022,
"Training a Helpful and Harmless Assistant" (2204.05862). On the hub: ``Anthropic/hh-rlhf``.
Layout: gzipped json lines: chosen, rejected, each a dialogue of turns that begin with "\n\nHuman:" and
"\n\nAssistant:" and differ after the last "\n\nAssistant:".
Size: 42,537 harmless and 43,835 helpful pairs for training, about 2,300 each for testing. The texts can be offensive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import LeftOut
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "hh_harmless/test.jsonl.gz"
ABOUT = "HH-RLHF (MIT) is in github.com/anthropics/hh-rlhf, for instance harmless-base/test.jsonl.gz"
COLUMNS = ("chosen", "rejected")
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


@dataclass(frozen=True)
class Row:
    r"""A dialogue up to its last "\n\nAssistant:" (included), the chosen answer and the rejected one."""

    prompt: str
    chosen: str
    rejected: str

    def opening(self) -> str:
        """The person's first turn. Dialogues that begin alike are one dialogue at several lengths."""
        return self.prompt.removeprefix(HUMAN).partition(ASSISTANT)[0]


def load(source: Source) -> list[Row]:
    """All pairs whose two dialogues have the same prompt and other answers, in file order; the log counts the others.

    Raises:
        UserError: the file is missing or broken, or a dialogue has no assistant's turn.
    """
    found, unusable = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT):
        halves = [row[column].rpartition(ASSISTANT) for column in COLUMNS]
        if not all(mark for _, mark, _ in halves):
            raise UserError(f"task.data_dir: {source.file}: row {number}: a dialogue has no '{ASSISTANT.strip()}' turn")
        (prompt, _, chosen), (other, _, rejected) = halves
        if prompt != other:
            unusable.add(number, "whose two dialogues differ before the last answer")
        elif chosen.strip() == rejected.strip():
            unusable.add(number, "whose two answers are equal")
        else:
            found.append(Row(prompt + ASSISTANT, chosen.strip(), rejected.strip()))
    unusable.say()
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by the opening turn. ``select`` and ``report`` train no scorer."""
    return divide(rows, Row.opening, SHARES, seed, text=lambda row: row.prompt)
