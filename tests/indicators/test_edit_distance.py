"""The edit distance against the table of Wagner & Fischer, written out."""

from __future__ import annotations

import random
import time

import numpy as np

from emorl_bench.indicators.text import edit_rate, levenshtein

WORDS = ["i", "am", "here", "with", "you", "it", "is", "the", "loss", "of", "what", "so", "hard"]


def by_table(a: list[str], b: list[str]) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            table[i + 1, j + 1] = min(table[i, j + 1] + 1, table[i + 1, j] + 1, table[i, j] + (left != right))
    return int(table[-1, -1])


def test_distances_of_words_are_those_of_the_table() -> None:
    rng = random.Random(0)
    for _ in range(150):
        a, b = (rng.choices(WORDS, k=rng.randrange(0, 25)) for _ in range(2))
        assert levenshtein(a, b) == by_table(a, b)
        longest = max(len(a), len(b))
        assert edit_rate(" ".join(a), " ".join(b)) == (by_table(a, b) / longest if longest else 0.0)


def test_words_of_one_letter_and_other_scripts_are_words() -> None:
    assert levenshtein(["a", "ab", "ü"], ["a", "b", "ü", "数"]) == 2
    assert levenshtein("kitten", "sitting") == 3


def test_a_long_answer_takes_well_under_a_millisecond() -> None:
    rng = random.Random(1)
    prompt, answer = rng.choices(WORDS, k=60), rng.choices(WORDS, k=180)
    begun = time.process_time()
    for _ in range(200):
        levenshtein(prompt, answer)
    assert (time.process_time() - begun) / 200 < 1e-3
