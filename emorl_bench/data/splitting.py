"""Divide a corpus into named parts, so that nearly equal texts are never in two of them.

A group (everything that belongs to one prompt, dialogue or review) is in one part as a whole. Two texts are
near-duplicates where the Jaccard similarity of their sets of words is 0.8 or more. Of two near-duplicates in different
parts, the one in the part that is named earlier is removed. So the last part (the report) keeps every row. The search
is exact, not sampled. Words are ordered from rare to common; then two sets of similarity t share at least l of their
first n - ceil(t n) + l words (Wang, Li and Feng 2012, "Can we beat the prefix filtering?"). So only these words are
indexed, and only such pairs are compared.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

from emorl_bench.core.errors import UserError

SIMILAR = 0.8  # texts whose sets of words have at least this Jaccard similarity count as the same
SHARED = 4  # number of rare words that two similar sets must share; with more, fewer pairs are compared in full
WORD = re.compile(r"\w+")

Item = TypeVar("Item")
Words = tuple[int, ...]  # a text's distinct words as ranks, from rare to common


@dataclass(frozen=True)
class Division(Generic[Item]):
    """Named parts, the number of near-duplicates that each of them lost, and a hash of their content."""

    parts: Mapping[str, list[Item]]
    removed: Mapping[str, int]
    fingerprint: str


def divide(
    items: Iterable[Item],
    group: Callable[[Item], str],
    shares: Mapping[str, float],
    seed: int = 0,
    text: Callable[[Item], str] | None = None,
) -> Division[Item]:
    """Divide items into parts by group. The order of the items decides only the order within a group.

    Args:
        items: what is divided.
        group: names the group of an item; case and white space do not matter.
        shares: part -> its share of the groups; they sum to 1. Of two parts, the one that is named later is protected.
        seed: of the order of the groups.
        text: what near-duplicates are searched in; the name of the group where it is not given.

    Raises:
        UserError: there are fewer groups than parts.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(normal(group(item)), []).append(item)
    if len(groups) < len(shares):
        raise UserError(f"task.data_dir: {len(groups)} distinct texts cannot make {len(shares)} parts; give more data")
    names = sorted(groups, key=lambda name: _digest(str(seed), name))
    cuts = _cuts(len(names), list(shares.values()))
    cut = {
        part: [item for name in names[start:end] for item in groups[name]]
        for part, (start, end) in zip(shares, pairwise(cuts), strict=True)
    }
    return protected(cut, group if text is None else text)


def protected(cut: Mapping[str, Sequence[Item]], text: Callable[[Item], str]) -> Division[Item]:
    """The parts without items that are nearly equal to an item of a later part."""
    texts = {name: [words_of(text(item)) for item in part] for name, part in cut.items()}
    order = _rarity(words for part in texts.values() for words in part)
    index = _Index()
    parts: dict[str, list[Item]] = {}
    removed: dict[str, int] = {}
    for name in reversed(list(cut)):
        words = [tuple(sorted(order[word] for word in words)) for words in texts[name]]
        near = [index.has_similar(row) for row in words]
        parts[name] = [item for item, is_near in zip(cut[name], near, strict=True) if not is_near]
        removed[name] = sum(near)
        for row, is_near in zip(words, near, strict=True):
            if not is_near:
                index.add(row)
    ordered = {name: parts[name] for name in cut}
    digest = _digest(*(repr((name, item)) for name, part in ordered.items() for item in part)).hex()[:16]
    return Division(ordered, {name: removed[name] for name in cut}, digest)


def normal(text: str) -> str:
    """A text in lower case with single spaces."""
    return " ".join(text.split()).casefold()


def words_of(text: str) -> frozenset[str]:
    """The distinct words of a text, or the text itself where it has none (such as "?!")."""
    return frozenset(WORD.findall(text.casefold())) or frozenset((normal(text),))


def _cuts(count: int, shares: Sequence[float]) -> list[int]:
    """The ends of the parts, each of which has at least one item."""
    if abs(sum(shares) - 1) > 1e-6 or min(shares) <= 0:
        raise ValueError(f"shares {list(shares)} of a split must be above 0 and sum to 1")
    cuts = [0]
    for done in range(1, len(shares) + 1):
        ahead = len(shares) - done
        cuts.append(min(count - ahead, max(cuts[-1] + 1, round(count * sum(shares[:done])))) if ahead else count)
    return cuts


@dataclass
class _Index:
    """Sets of words, which are found by their rare words."""

    rows: list[Words] = field(default_factory=list)
    holders: dict[int, list[int]] = field(default_factory=dict)

    def add(self, words: Words) -> None:
        for word in words[: _prefix(len(words))]:
            self.holders.setdefault(word, []).append(len(self.rows))
        self.rows.append(words)

    def has_similar(self, words: Words) -> bool:
        shared: Counter[int] = Counter()
        for word in words[: _prefix(len(words))]:
            shared.update(self.holders.get(word, ()))
        own, enough = set(words), min(SHARED, _least_common(len(words)))
        return any(_jaccard(own, self.rows[place]) >= SIMILAR for place, n in shared.items() if n >= enough)


def _jaccard(one: set[int], other: Words) -> float:
    both = len(one.intersection(other))
    return both / (len(one) + len(other) - both)


def _least_common(size: int) -> int:
    """The least number of words that a set of this size shares with a similar set."""
    return math.ceil(SIMILAR * size - 1e-9)


def _prefix(size: int) -> int:
    return size - _least_common(size) + SHARED


def _rarity(texts: Iterable[frozenset[str]]) -> dict[str, int]:
    counts = Counter(word for words in texts for word in words)
    return {word: rank for rank, word in enumerate(sorted(counts, key=lambda word: (counts[word], word)))}


def _digest(*parts: str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.digest()
