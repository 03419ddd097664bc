"""What responses look like, whatever they score: do they repeat themselves, do they copy the prompt?

A policy that has found a hole in a scorer usually shows it here first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """Lower-case words; ``don't`` is one word and punctuation is none."""
    return WORD.findall(text.lower())


def diversity_2(responses: Sequence[str]) -> float:
    """Distinct bigrams / bigrams of each response, averaged (distinct-2, Li et al., NAACL 2016).

    Within a response and not over the corpus, as EMORL reports it. Fewer than two words make no bigram and count as 0.
    """
    return sum(map(_distinct_bigrams, responses)) / len(responses) if responses else 0.0


def distinct_share(responses: Sequence[str]) -> float:
    """Distinct responses / prompts, one response for each prompt: a policy that says the same to all is near 0."""
    return len(set(responses)) / len(responses) if responses else 0.0


def edit_rate(prompt: str, response: str) -> float:
    """Word-level Levenshtein distance over the longer length: 0 is a copy of the prompt, 1 shares nothing in place."""
    a, b = words(prompt), words(response)
    return levenshtein(a, b) / max(len(a), len(b)) if a or b else 0.0


def levenshtein(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions from a to b, one row of the table at a time."""
    above = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
        above = row
    return above[-1]


def _distinct_bigrams(response: str) -> float:
    tokens = words(response)
    bigrams = list(pairwise(tokens))
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0
