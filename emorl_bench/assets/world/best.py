"""The best legal answer to a statement for each preference, by enumeration.

What an answer is worth depends on which reflective sentences it has, how many warm ones and whether one of them fits,
and how long it is. So it is enough to try every set of up to three reflective sentences with up to three warm ones: the
shortest, or the shortest that fits with the shortest others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emorl_bench.assets.world.grades import OBJECTIVES, gold
from emorl_bench.assets.world.judge import REFLECTIVE, heard
from emorl_bench.assets.world.responses import FITTING, KINDS, WARM, split_words

Floats = NDArray[np.float64]
MOST_REFLECTIVE, MOST_WARM = 3, 3


def legal_answers(prompt: str, most_words: int) -> Iterator[str]:
    """Candidates for the best answer: every other plain answer of the world is worth no more for any preference."""
    said = heard(prompt)
    reflective = [t.format(**said) for kind in REFLECTIVE for t in KINDS[kind]]
    others = [min((t.format(**said) for t in KINDS[kind]), key=_length) for kind in ("question", "advice")]
    warm = sorted(WARM, key=_length)
    fitting = [text for text in warm if said["feeling"] in FITTING[text]]
    leads = (warm, [*fitting[:1], *(text for text in warm if text not in fitting[:1])])
    tones = dict.fromkeys(tuple(lead[:count]) for lead in leads for count in range(MOST_WARM + 1))
    cores = [c for n in range(MOST_REFLECTIVE + 1) for c in itertools.combinations(reflective, n)]
    for core in [*cores, *((other,) for other in others)]:
        for tone in tones:
            answer = " ".join([*core, *tone])
            if answer and _length(answer) <= most_words:
                yield answer


@lru_cache(maxsize=4096)
def answers_and_grades(prompt: str, most_words: int) -> tuple[tuple[str, ...], Floats]:
    """The candidates and their gold grades (N, K)."""
    answers = tuple(legal_answers(prompt, most_words))
    return answers, np.array([gold(prompt, answer) for answer in answers])


def ceilings(prompts: Sequence[str], preferences_WK: Floats, most_words: int) -> Floats:
    """(W, K): mean grades of the best answers to ``prompts`` under each preference."""
    best_PWK = np.empty((len(prompts), len(preferences_WK), len(OBJECTIVES)))
    for p, prompt in enumerate(prompts):
        grades_NK = answers_and_grades(prompt, most_words)[1]
        best_PWK[p] = grades_NK[(preferences_WK @ grades_NK.T).argmax(1)]
    return best_PWK.mean(0)


def inside(prompts: Sequence[str], most_words: int) -> float:
    """How much more the best compromise is worth at the uniform preference than the best answer of those that are best
    for one objective.
    """
    gains = []
    for prompt in prompts:
        grades_NK = answers_and_grades(prompt, most_words)[1]
        utility_N = grades_NK.mean(1)
        best_for_one_N = (grades_NK >= grades_NK.max(0) - 1e-9).any(1)
        gains.append(utility_N.max() - utility_N[best_for_one_N].max())
    return float(np.mean(gains))


def _length(text: str) -> int:
    return len(split_words(text))
