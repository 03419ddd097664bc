"""The held-out scorers: logistic regression on hashed n-grams. They share no layer and no training datum with `Reader`.

The features of a text are its runs of one to four words, and whether each run is also in the prompt (in a counsellor's
words). More features are the text's pattern, in which every stretch taken from the prompt is written as one word, its
runs of three words beside what the client feels, and its length. Features are hashed into `BUCKETS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from emorl_bench.assets.world.lexicon import FEELINGS, to_you
from emorl_bench.assets.world.responses import split_words

BUCKETS = 2**16
HEARD = "<heard>"  # in a pattern, it stands for a stretch of the prompt
Gram = tuple[str, ...]


class NGrams(nn.Module):
    """Logits of the grades from hashed features, calibrated by ``scale * z + shift``.

    Args:
        grades: K.
    """

    def __init__(self, grades: int = 3) -> None:
        """Begin with weights of 0."""
        super().__init__()
        self.weights = nn.EmbeddingBag(BUCKETS, grades, mode="sum")
        self.bias = nn.Parameter(torch.zeros(grades))
        self.scale = nn.Parameter(torch.ones(grades))
        self.shift = nn.Parameter(torch.zeros(grades))
        nn.init.zeros_(self.weights.weight)

    def forward(self, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        """Logits (B, K) of B responses to their prompts."""
        return self.calibrated(self.raw([features(p, r) for p, r in zip(prompts, responses, strict=True)]))

    def raw(self, rows: Sequence[Tensor]) -> Tensor:
        """Logits (B, K) before calibration, from the features of each row."""
        starts_B = torch.tensor([0, *map(len, rows[:-1])]).cumsum(0)
        return self.weights(torch.cat(list(rows)).to(self.bias.device), starts_B.to(self.bias.device)) + self.bias

    def calibrated(self, raw_BK: Tensor) -> Tensor:
        """Logits (B, K) after calibration."""
        return self.scale * raw_BK + self.shift


def features(prompt: str, response: str) -> Tensor:
    """The buckets of a text's features, each bucket once."""
    found = {zlib.crc32(repr(feature).encode()) % BUCKETS for feature in _features(prompt, response)}
    return torch.tensor(sorted(found))


def _features(prompt: str, response: str) -> Iterator[object]:
    words, heard = ["^", *split_words(response), "$"], _heard(prompt)
    feelings = [word for word in split_words(prompt) if word in FEELINGS]
    said: set[Gram] = set()
    for n in (1, 2, 3, 4):
        for gram in _grams(words, n):
            yield gram
            if n > 1:
                yield "heard", n, gram[0], gram in heard
            if n == 3:
                yield from ((feeling, gram) for feeling in feelings)
                yield "again" if gram in said else "first"
                said.add(gram)
    pattern = _pattern(words, heard)
    for n in (2, 3, 4, 5):
        yield from (("pattern", gram) for gram in _grams(pattern, n))
    yield "words", len(words)
    yield "sentences", sum(word in ".?" for word in words)


def _grams(words: Sequence[str], n: int) -> list[Gram]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@lru_cache(maxsize=8192)
def _heard(prompt: str) -> frozenset[Gram]:
    """Every run of one to four words of the prompt, as a counsellor would give it back."""
    words = to_you(" ".join(split_words(prompt))).split()
    return frozenset(gram for n in (1, 2, 3, 4) for gram in _grams(words, n))


def _pattern(words: Sequence[str], heard: frozenset[Gram]) -> list[str]:
    """The words, with each stretch of three or more words of the prompt written as one word."""
    from_prompt = [
        any(tuple(words[max(0, i - k) : max(0, i - k) + 3]) in heard for k in range(3)) for i in range(len(words))
    ]
    pattern: list[str] = []
    for word, is_heard in zip(words, from_prompt, strict=True):
        if not (is_heard and pattern and pattern[-1] == HEARD):
            pattern.append(HEARD if is_heard else word)
    return pattern
