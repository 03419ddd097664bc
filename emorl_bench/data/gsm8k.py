"""GSM8K: grade-school word problems with worked answers that end in ``#### number``.

Source: github.com/openai/grade-school-math, ``grade_school_math/data`` (MIT); Cobbe et al. 2021, "Training Verifiers to
Solve Math Word Problems" (2110.14168). On the hub: ``openai/gsm8k``, config ``main``.
Layout: one json object a line: question, answer.
Size: 7,473 in ``train.jsonl``, 1,319 in ``test.jsonl``, which is the published test set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import LeftOut, quoted
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide, protected

FILE = "gsm8k/train.jsonl"
TEST_FILE = "gsm8k/test.jsonl"
ABOUT = "GSM8K (MIT) is train.jsonl and test.jsonl of grade_school_math/data in github.com/openai/grade-school-math"
COLUMNS = ("question", "answer")
MARK = "####"
NUMBER = re.compile(r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")  # all that `gsm8k_accuracy` compares with
SHARES = {"scorer": 0.45, "held_out": 0.45, "select": 0.1}


@dataclass(frozen=True)
class Row:
    """A question, its worked answer, and the number after ``####`` without thousands separators."""

    question: str
    answer: str
    final: str


def load(source: Source) -> list[Row]:
    """All problems in file order. Rows without a question are left out, and the log counts them.

    Raises:
        UserError: the file is missing or broken, or an answer does not end with ``#### number``.
    """
    found, empty = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT):
        _, mark, final = row["answer"].rpartition(MARK)
        if not mark or not NUMBER.fullmatch(final.strip()):
            raise UserError(
                f"task.data_dir: {source.file}: row {number}: the answer does not end with '{MARK} number' "
                f"({quoted(final if mark else row['answer'])}); mend or delete the row"
            )
        if question := " ".join(row["question"].split()):
            found.append(Row(question, row["answer"].strip(), final.strip().replace(",", "")))
        else:
            empty.add(number, "without a question")
    empty.say()
    return found


def parts(rows: Sequence[Row], test: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by question.

    ``test``, the published test set, is the report. Training rows that resemble it are removed.
    """
    division = divide(rows, lambda row: row.question, SHARES, seed)
    whole = protected({**division.parts, "report": test}, lambda row: row.question)
    removed = {part: count + division.removed.get(part, 0) for part, count in whole.removed.items()}
    return Division(whole.parts, removed, whole.fingerprint)
