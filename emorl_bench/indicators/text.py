"""Properties of responses that do not depend on scores: do they repeat themselves, do they copy the prompt?

A policy that exploits an error of a scorer usually shows it here first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rapidfuzz.distance import Levenshtein

WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """Lower-case words. ``don't`` is one word, and punctuation is none."""
    return WORD.findall(text.lower())


def diversity_2(responses: Sequence[str]) -> float:
    """Distinct bigrams over bigrams of each response, averaged over responses (distinct-2, Li et al., NAACL 2016).

    It is taken within a response and not over the corpus, as EMORL reports it. Fewer than two words have no bigram and
    count as 0.
    """
    return sum(map(_distinct_bigrams, responses)) / len(responses) if responses else 0.0


def distinct_share(responses: Sequence[str]) -> float:
    """Distinct responses over prompts, with one response for each prompt.

    It is near 0 for a policy that answers all alike.
    """
    return len(set(responses)) / len(responses) if responses else 0.0


def edit_rate(prompt: str, response: str) -> float:
    """Word-level Levenshtein distance over the longer length.

    0 is a copy of the prompt; 1 has no word in the same place.
    """
    a, b = words(prompt), words(response)
    return levenshtein(a, b) / max(len(a), len(b)) if a or b else 0.0


def levenshtein(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions from a to b."""
    return Levenshtein.distance(a, b)


def _distinct_bigrams(response: str) -> float:
    tokens = words(response)
    bigrams = list(pairwise(tokens))
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0
