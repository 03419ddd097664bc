"""Counsel-Chat: questions that people asked on a public forum, and answers of licensed therapists.

Source: github.com/nbertagnolli/counsel-chat, ``data/counselchat-data.csv`` (repository MIT; text from counselchat.com);
Bertagnolli 2020, "Counsel Chat: Bootstrapping High-Quality Therapy Data".
Layout: comma-separated with header, among others questionID, questionTitle, questionText, answerText (HTML, some with
an image of 200 kB inside), upvotes.
Size: 1,482 answers to 781 questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape

from emorl_bench.data.notices import LeftOut, say_repeated
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "counselchat/counselchat-data.csv"
ABOUT = "Counsel-Chat (MIT) is data/counselchat-data.csv of github.com/nbertagnolli/counsel-chat"
COUNT = re.compile(r"\d+(\.0*)?")  # other programs write a column with gaps as 3.0
COLUMNS = ("questionID", "questionTitle", "questionText", "answerText", "upvotes")
UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


@dataclass(frozen=True)
class Row:
    """A question (its title, where it has no text) and one answer to it, each as plain text in one line."""

    question_id: str
    question: str
    answer: str
    upvotes: int


def load(source: Source) -> list[Row]:
    """All answered questions, in file order. The log counts rows without a question or an answer, and repeated ones.

    Raises:
        UserError: the file is missing or broken.
    """
    found, empty = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT):
        question = plain_text(row["questionText"]) or plain_text(row["questionTitle"])
        answer, upvotes = plain_text(row["answerText"]), row["upvotes"].strip()
        if question and answer:
            found.append(
                Row(row["questionID"], question, answer, int(float(upvotes)) if COUNT.fullmatch(upvotes) else 0)
            )
        else:
            empty.add(number, "without a question or an answer")
    empty.say()
    say_repeated(source, source.file, (((row.question, row.answer), row.upvotes) for row in found), "number of upvotes")
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by question.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda row: row.question, SHARES, seed)


def plain_text(html: str) -> str:
    """HTML without tags, scripts and entities; "a < b" and "<3" stay."""
    return " ".join(unescape(TAG.sub(" ", UNSEEN.sub(" ", html))).split())
