"""What an answer to a sum is worth: right, brief and worked, each in [0, 1].

Let n be the number of needed steps, one less than the number of terms.

- right: 1 where the answer ends in ``so NUMBER`` and the number is the sum, else 0.
- brief: ``1 - (extra / (6 n))^2`` and not below 0; ``extra`` counts the words beyond the two of ``so NUMBER``, and a
  step with its comma has six. 0 without ``so NUMBER`` at the end.
- worked: ``1 - (missing / n)^2``; ``missing`` is n less the needed steps that are written, each counted once and in
  order, plus one for every other part between commas, and at most n.

For the share s = k / n of the steps written, the best answer has brief = 1 - s^2 and worked = 1 - (1 - s)^2. The
squares give the front its inside: were both linear, every s would have the same sum of the two, and the best
compromise would be worth no more than an answer that is best for one objective. With them the best s for weights
(w_brief, w_worked) is w_worked / (w_brief + w_worked).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

WORD = re.compile(r"[0-9]+|[a-z]+|\S")
LEGAL = re.compile(r"([0-9]+ \+ [0-9]+ = [0-9]+ , )*so [0-9]+")  # the grammar, of words with one space between them
WORDS_OF_A_STEP = 6  # "4 + 7 = 11 ,"
SHORTEST = 2  # words: "so 24"


@dataclass(frozen=True, slots=True)
class Worth:
    right: float
    brief: float
    worked: float

    def scores(self) -> tuple[float, ...]:
        return astuple(self)


OBJECTIVES = tuple(Worth.__dataclass_fields__)


def words(text: str) -> list[str]:
    """Numbers, runs of letters and single marks, however they are spaced."""
    return WORD.findall(text.lower())


def needed_steps(terms: Sequence[int]) -> list[str]:
    """Every step of the working, in order; words with one space between them."""
    steps, total = [], terms[0]
    for term in terms[1:]:
        steps.append(f"{total} + {term} = {total + term}")
        total += term
    return steps


def judge(terms: Sequence[int], answer: str) -> Worth:
    """What ``answer`` is worth as an answer to the sum of ``terms``."""
    said, needed = words(answer), needed_steps(terms)
    parts, number = parted(said)
    written = in_order(parts, needed)
    missing = min(len(needed), len(needed) - written + (len(parts) - written))
    extra = max(0, len(said) - SHORTEST) / (WORDS_OF_A_STEP * len(needed))
    return Worth(
        right=float(number == str(sum(terms))),
        brief=0.0 if number is None else max(0.0, 1 - extra**2),
        worked=1 - (missing / len(needed)) ** 2,
    )


def parted(said: Sequence[str]) -> tuple[list[str], str | None]:
    """The parts between commas, and the number of a closing ``so NUMBER``, which is then no part."""
    parts = [part.strip() for part in " ".join(said).split(",")]
    match parts[-1].split():
        case ["so", number] if number.isdecimal():
            return parts[:-1], number
        case _:
            return parts, None


def in_order(parts: Sequence[str], needed: Sequence[str]) -> int:
    """How many parts are needed steps, each once, none before an earlier one."""
    at, count = 0, 0
    for part in parts:
        if part in needed[at:]:
            at, count = needed.index(part, at) + 1, count + 1
    return count


def best_answer(terms: Sequence[int], steps: int) -> str:
    """The best answer that writes the first ``steps`` steps."""
    return " , ".join([*needed_steps(terms)[:steps], f"so {sum(terms)}"])


def best_worth(level: int) -> list[Worth]:
    """What the best answer with 0, 1, ... all steps written is worth; no text is better at any preference."""
    needed = level - 1
    shares = [steps / needed for steps in range(needed + 1)]
    return [Worth(1.0, 1 - share**2, 1 - (1 - share) ** 2) for share in shares]


def best_for(level: int, preference: Mapping[str, float]) -> Worth:
    """The best for weights of objectives; of several, the highest sum of all three scores, then the fewest steps."""

    def order(worth: Worth) -> tuple[float, float]:
        utility = sum(weight * getattr(worth, name) for name, weight in preference.items())
        return round(utility, 9), round(sum(worth.scores()), 9)

    return max(best_worth(level), key=order)


@lru_cache(maxsize=1)
def rules_key() -> str:
    """A hash of this page: scores of other rules are other scores."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
