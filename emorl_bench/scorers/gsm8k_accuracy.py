"""Is the last number of the response the reference answer? 1 or 0. It does not apply where there is no reference.

It is the measure of GSM8K (Cobbe et al., arXiv 2110.14168) and CORY's reward (arXiv 2410.06101). A reference may be a
number, or a worked answer that ends in ``#### number``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import Rule

NUMBER = re.compile(r"(?:(?<![\w.)])[-−])?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<!\d)\.\d+")


@dataclass(frozen=True)
class Gsm8kAccuracy(Rule):
    """Whether the last number is the reference."""

    name: str = "gsm8k_accuracy"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        """B of 1.0, 0.0, or None where the example has no reference.

        Raises:
            UserError: a reference is no number, such as ``1/2`` or ``twelve``: it cannot be compared with one.
        """
        wanted = [None if e.answer is None else reference(e.answer) for e in examples]
        pairs = zip(wanted, responses, strict=True)
        return [None if number is None else float(last_number(response) == number) for number, response in pairs]


def reference(answer: str) -> Decimal:
    """The number that a reference is: the whole text, or all that follows its last ``####``.

    Raises:
        UserError: that is something else than one number.
    """
    final = answer.rpartition("####")[2].strip()
    number = last_number(final)
    if number is None or not NUMBER.fullmatch(final):
        raise UserError(
            f"task.scorers.gsm8k_accuracy: a reference is {final[:40]!a}; give a number, or an answer that ends "
            "with '#### number'"
        )
    return number


def last_number(text: str) -> Decimal | None:
    """The last number in a text, or None.

    ``1,000``, ``$1000.00`` and ``1000`` are equal; a hyphen between digits is no minus.
    """
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("$", "").replace("−", "-")) if found else None
