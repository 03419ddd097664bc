"""What an answer is worth: three grades in [0, 1], computed from what the judge reads.

- **reflection**: how much of what the client said is given back. An answer without a complex reflection, which joins
  two sides of it, is worth no more than `SIMPLE_REFLECTION`.
- **empathy**: how many different warm sentences there are, and whether one of them answers to what the client feels
  ("you are not alone in this." to somebody who is lonely). A cold sentence spoils all of them.
- **fluency**: well-formed and brief: the share of sound sentences, times a price on every word after the seventh.

Whatever the world cannot write, or has written before in the same answer, dilutes reflection and empathy by its share
of the sentences. Each grade has a diminishing return, so that a preference for all three is served best by an answer
that is best for none of them (docs/arena.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from emorl_bench.assets.world.judge import Reading, read

OBJECTIVES = ("reflection", "empathy", "fluency")

REFLECTION = (0.0, 0.4, 0.7, 0.87, 0.95, 1.0)  # by the number of details heard right, of five
SIMPLE_REFLECTION = 0.4  # at most this without a complex reflection
OTHER_KINDS = {"question": 0.15, "advice": 0.1}  # an answer that gives nothing back at least turns to the client
EMPATHY = (0.1, 0.8, 0.92, 1.0)  # by the number of warm sentences, one of which answers to what the client feels
UNFITTING = (0.1, 0.4, 0.52, 0.6)  # the same where none of them does
FREE_WORDS, MOST_WORDS = 7, 28  # brevity is 1 to the seventh word or mark, and falls by the square to 0 at the 28th


def gold(prompt: str, response: str) -> tuple[float, float, float]:
    """(reflection, empathy, fluency) of an answer to a statement of the world.

    Raises:
        UserError: the prompt is no statement of the world.
    """
    return grades(read(prompt, response))


def golds(prompts: Sequence[str], responses: Sequence[str]) -> list[tuple[float, float, float]]:
    return [gold(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]


def grades(reading: Reading) -> tuple[float, float, float]:
    if not reading.sentences:
        return 0.0, 0.0, 0.0
    kinds = {sentence.kind for sentence in reading.sentences if not sentence.wrong}
    reflection = max(reflection_of(reading.details(), kinds), *(OTHER_KINDS.get(kind, 0.0) for kind in kinds), 0.0)
    empathy = 0.0 if reading.cold else empathy_of(reading.warm, reading.fitting)
    form = 0.5 * reading.plain + 0.5 * (reading.plain == 1)
    return reading.known * reflection, reading.known * empathy, form * brevity(reading.words)


def reflection_of(details: int, kinds: set[str]) -> float:
    """The worth of so many details, told in sentences of these kinds."""
    worth = REFLECTION[min(details, len(REFLECTION) - 1)]
    return worth if "complex" in kinds else min(worth, SIMPLE_REFLECTION)


def empathy_of(warm: int, fitting: bool) -> float:
    """The worth of so many warm sentences, one of which fits or none."""
    worth = EMPATHY if fitting else UNFITTING
    return worth[min(warm, len(worth) - 1)]


def brevity(words: int) -> float:
    over = min(1.0, max(0.0, (words - FREE_WORDS) / (MOST_WORDS - FREE_WORDS)))
    return 1 - over**2


@lru_cache(maxsize=1)
def world_key() -> str:
    """A hash of the world's code: its grammar, its judge and these grades."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
