"""Dialogues for the base models, labelled pairs for the scorers, fluent text for their language models.

The counsellors of the base models' dialogues have habits: how they answer leans on the client's style (kind of
response), feeling (warmth) and behaviour (broken speech). So a base model's most likely answer differs between prompts,
and each quality is somewhere in its repertoire, seldom all together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from emorl_bench.assets.world.lexicon import to_you
from emorl_bench.assets.world.responses import (
    DEFECTS,
    KINDS,
    Response,
    core,
    details_of,
    join_words,
    respond,
    split_words,
)
from emorl_bench.assets.world.statements import Statement, draw_statement, sample_statements, situations

# index of the style / feeling / behaviour -> what that client's counsellors tend to
KIND_HABIT = ("complex", "question", "simple", "advice", "confrontation")
WARMTH_HABIT = ("warm", "cold", "neutral", "very warm", "cold", "neutral") * 2
DEFECT_HABIT = (None, "telegraphic", "inverted", None, "ungrammatical") * 3
KIND_STRENGTH, WARMTH_STRENGTH, DEFECT_STRENGTH = 0.5, 0.5, 0.7
WARMTHS = ("very warm", "warm", "neutral", "cold")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, an answer to it, and the labels a scorer learns."""

    prompt: str
    response: str
    reflection: float
    empathy: float


def habitual_response(rng: random.Random, statement: Statement) -> Response:
    """What a counsellor of mixed quality would say."""
    kind = KIND_HABIT[statement.style] if rng.random() < KIND_STRENGTH else rng.choice(list(KINDS))
    warmth = WARMTH_HABIT[statement.feeling] if rng.random() < WARMTH_STRENGTH else rng.choice(WARMTHS)
    defect = DEFECT_HABIT[statement.behaviour]
    if rng.random() > DEFECT_STRENGTH:
        defect = rng.choice((None, None, None, *DEFECTS))
    return respond(rng, statement, kind, warmth, defect)


def dialogues(count: int, seed: int) -> list[tuple[str, str]]:
    """Prompt and response of mixed quality, on training situations only."""
    rng = random.Random(f"dialogues/{seed}")
    statements = sample_statements("train", count, seed)
    return [(s.text, habitual_response(rng, s).text) for s in statements]


def lessons(count: int, seed: int) -> list[tuple[str, str]]:
    """Dialogues that only listen: details given back and nothing else, so that a small model soon learns to copy."""
    rng = random.Random(f"lessons/{seed}")
    statements = sample_statements("train", count, seed)
    return [(s.text, f"{core(rng, s, 'complex')} {core(rng, s, 'simple')}") for s in statements]


def fluent_texts(count: int, seed: int, half: int) -> list[str]:
    """Unbroken responses for the language model behind the fluency scorer, plain ones most of all."""
    rng, among = random.Random(f"fluent/{seed}"), situations("train", half)
    kinds, weights = ("complex", "simple", "question", "advice", "confrontation"), (2, 2, 5, 6, 3)
    texts = []
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        warmth = rng.choices(WARMTHS, (1, 2, 7, 1))[0]
        texts.append(respond(rng, draw_statement(rng, among), kind, warmth).text)
    return texts


def labelled_pairs(count: int, seed: int, half: int) -> list[Pair]:
    """Half plain pairs, half adversarial ones: answers to someone else, and text no one would say."""
    rng, among = random.Random(f"pairs/{seed}"), situations("train", half)
    return [labelled_pair(rng, among) for _ in range(count)]


def labelled_pair(rng: random.Random, among: list[tuple[int, int]]) -> Pair:
    statement, kind = draw_statement(rng, among), rng.choice(("complex", *KINDS))
    defect = rng.choice((None, None, *DEFECTS))
    response = respond(rng, statement, kind, rng.choice(WARMTHS), defect)
    true = Pair(statement.text, response.text, response.reflection, response.empathy)
    draw = rng.random()
    if draw < 0.55:
        return true
    if draw < 0.8:
        return misheard(rng, statement, among)
    return nonsense(rng, true)


def misheard(rng: random.Random, statement: Statement, among: list[tuple[int, int]]) -> Pair:
    """A reflection of something the client did not say: of someone else's words, or with some details mixed up."""
    other, swap = draw_statement(rng, among), 1.0 if rng.random() < 0.5 else 0.4
    fields = ("behaviour", "event", "feeling", "hope", "obstacle")
    heard = replace(statement, **{f: getattr(other, f) for f in fields if rng.random() < swap})
    response = respond(rng, heard, rng.choice(("complex", "complex", "simple")), rng.choice(WARMTHS))
    right, used = details_heard(response.text, statement, heard)
    reflection = response.reflection if right == used else 0.3 * response.reflection * right / used
    return Pair(statement.text, response.text, reflection, response.empathy)


def details_heard(text: str, said: Statement, heard: Statement) -> tuple[int, int]:
    """How many details of ``heard`` the text mentions truly, and how many it mentions."""
    details_said, details = details_of(said), details_of(heard)
    used = [name for name, detail in details.items() if detail in text]
    return sum(details[name] == details_said[name] for name in used), len(used)


def nonsense(rng: random.Random, pair: Pair) -> Pair:
    """What a policy may try once it is paid for a score: each of these is worth nothing."""
    words, prompt = split_words(pair.response), split_words(pair.prompt)
    half = max(1, len(words) // 2)
    tricks: tuple[Callable[[], list[str]], ...] = (
        lambda: rng.sample(words, len(words)),  # the right words in no order
        lambda: [rng.choice(words + prompt)] * rng.randrange(1, 20),
        lambda: (words[: rng.randrange(2, 5)] * 8)[:20],
        lambda: prompt[: rng.randrange(8, len(prompt) + 1)],
        lambda: [to_you(w) for w in rng.sample(prompt, min(18, len(prompt)))],
        lambda: words[half:] + words[:half] + words[half:],
        lambda: [],
    )
    return Pair(pair.prompt, join_words(rng.choice(tricks)()), 0.0, 0.0)
