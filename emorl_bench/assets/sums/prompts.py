"""Sums: how they are written, which split each belongs to, and how a split is drawn.

The level of a sum is its number of terms. The split does not depend on the order of the terms, so ``4 + 7 + 8 =`` and
``8 + 4 + 7 =`` are in the same split.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Sequence

from emorl_bench.core.errors import UserError

Terms = tuple[int, ...]

SPLITS = ("train", "select", "report")
SHARES = {"report": 0.1, "select": 0.1}  # shares of all sums; the others are for training
LARGEST_SPLIT = 20_000
COUNTED = 20_000  # sums without order that are enumerated; a level with more of them never runs out
SUM = re.compile(r"\s*[0-9]+(\s*\+\s*[0-9]+)+\s*=?\s*")


def prompt_of(terms: Sequence[int]) -> str:
    """``(4, 7, 8)`` becomes ``"4 + 7 + 8 ="``."""
    return " + ".join(map(str, terms)) + " ="


def is_sum(text: str) -> bool:
    """Whether a text is a sum of two or more numbers."""
    return SUM.fullmatch(text) is not None


def terms_of(prompt: str) -> Terms:
    """The terms of a prompt.

    Raises:
        UserError: the text is no sum.
    """
    if not is_sum(prompt):
        raise UserError(f"{prompt[:60]!r} is no sum; give two or more numbers, such as '4 + 7 + 8 ='")
    return tuple(int(word) for word in re.findall("[0-9]+", prompt))


def split_of(terms: Sequence[int]) -> str:
    """The split of a sum, whatever the order of its terms."""
    digest = hashlib.sha256(f"sum of {' '.join(map(str, sorted(terms)))}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in SHARES.items():
        if bucket < share:
            return split
        bucket -= share
    return "train"


def draw_terms(rng: random.Random, level: int, largest: int) -> Terms:
    """``level`` terms from 1 to ``largest``, of any split."""
    return tuple(rng.randint(1, largest) for _ in range(level))


def draw_split(split: str, size: int, seed: int, levels: Sequence[int], largest: int) -> list[Terms]:
    """Draw ``size`` distinct sums. Every beginning of the list has the same number of each level, give or take one.

    Raises:
        UserError: a level has fewer distinct sums in this split than are needed.
    """
    counts = [len(range(place, size, len(levels))) for place in range(len(levels))]
    drawn = [_draw(split, count, seed, level, largest) for level, count in zip(levels, counts, strict=True)]
    return [drawn[i % len(levels)][i // len(levels)] for i in range(size)]


def _draw(split: str, count: int, seed: int, level: int, largest: int) -> list[Terms]:
    if count > (there_are := capacity(split, level, largest)):
        raise UserError(
            f"task.{split}: needs {count} different sums of {level} terms and there are {there_are:.0f} with terms "
            f"from 1 to {largest}; lower task.{split}, or raise task.largest_term or task.levels"
        )
    rng = random.Random(f"sums/{split}/{seed}/{level}/{largest}")
    drawn: dict[Terms, None] = {}
    while len(drawn) < count:
        terms = draw_terms(rng, level, largest)
        if terms not in drawn and split_of(terms) == split:
            drawn[terms] = None
    return list(drawn)


def capacity(split: str, level: int, largest: int) -> float:
    """The number of different sums of a level in a split; infinite where nobody can want as many."""
    if math.comb(largest + level - 1, level) > COUNTED / min(SHARES.values()):
        return math.inf
    unordered = itertools.combinations_with_replacement(range(1, largest + 1), level)
    return sum(_orders(terms) for terms in unordered if split_of(terms) == split)


def _orders(terms: Terms) -> int:
    """The number of orders in which these terms can be written."""
    repeats = (math.factorial(len(list(same))) for _, same in itertools.groupby(terms))
    return math.factorial(len(terms)) // math.prod(repeats)
