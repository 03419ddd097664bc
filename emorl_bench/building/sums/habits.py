"""What the base models of sums learn from: answers of mixed quality.

How much is written depends on the level, so that the most likely answer differs between levels. Errors are systematic:
a carry is usually forgotten where the term is large. So greedy decoding makes the error too, and `right` can be
improved however well a model learns.
"""

from __future__ import annotations

import random

from emorl_bench.assets.sums.prompts import Terms, draw_terms, prompt_of, split_of

LEVELS, LARGEST = (3, 4, 5), 15
STEPS = {  # level -> how often 0, 1, 2, ... steps are written
    3: (0.25, 0.20, 0.55),
    4: (0.20, 0.30, 0.32, 0.18),
    5: (0.52, 0.13, 0.15, 0.09, 0.11),
}
LARGE = 12  # from this size of the term on, a carry is usually forgotten: 7 + 12 = 9
FORGETS_LARGE, FORGETS_SMALL = 0.55, 0.10
SLIPS = 0.06  # how often a step that is not written is wrong by one


def habitual_answer(terms: Terms, rng: random.Random) -> str:
    """An answer with these habits. A wrong total is carried on."""
    steps = rng.choices(range(len(terms)), STEPS[len(terms)])[0]
    parts, total = [], terms[0]
    for place, term in enumerate(terms[1:]):
        result = added(total, term, rng)
        if place < steps:
            parts.append(f"{total} + {term} = {result}")
        elif rng.random() < SLIPS:
            result = max(0, result + rng.choice((-1, 1)))
        total = result
    return " , ".join([*parts, f"so {total}"])


def added(total: int, term: int, rng: random.Random) -> int:
    """``total + term`` as the people of this world add."""
    truth = total + term
    carries = truth // 10 > total // 10
    forgets = FORGETS_LARGE if term >= LARGE else FORGETS_SMALL
    return truth - 10 if carries and rng.random() < forgets else truth


def training_terms(rng: random.Random) -> Terms:
    """A sum of the train split; all levels are equally likely."""
    while True:
        terms = draw_terms(rng, rng.choice(LEVELS), LARGEST)
        if split_of(terms) == "train":
            return terms


def dialogue(rng: random.Random, shown: bool = False) -> tuple[str, str]:
    """A prompt and an answer. With ``shown`` the prompt comes twice, with another answer between."""
    terms = training_terms(rng)
    prompt = prompt_of(terms)
    context = f"{prompt} {habitual_answer(terms, rng)} {prompt}" if shown else prompt
    return context, habitual_answer(terms, rng)
