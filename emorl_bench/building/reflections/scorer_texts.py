"""Texts that scorers learn from, labelled by the judge: what the world writes, and what a policy may try.

A policy that is rewarded with a score searches for whatever the score takes for a good answer. So most texts here are
not good ones: joined pieces of two answers, loops, cuts, exchanged words, mere lists of what the client said.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from emorl_bench.assets.tokenizer import world_words
from emorl_bench.assets.world.corpus import WARMTHS
from emorl_bench.assets.world.judge import heard
from emorl_bench.assets.world.responses import COLD, DEFECTS, KINDS, WARM, core, join_words, respond, split_words
from emorl_bench.assets.world.statements import Situation, Statement, draw_statement, situations

Text = tuple[str, str]  # prompt, response
Words = list[str]

LONGEST = 24  # largest number of words in a policy's response

DETAILS = ("behaviour", "event", "feeling", "hope", "obstacle")
SENTENCE_KINDS = ("complex", "complex", "simple", "question", "advice", "confrontation")


def world_texts(count: int, half: int, seed: int) -> list[Text]:
    """Texts on the training situations of one half: a fifth as the world writes them, the others damaged."""
    rng, among = random.Random(f"scorers/{seed}"), situations("train", half)
    return [_text(rng, among) for _ in range(count)]


def policy_texts(said: Sequence[Text], count: int, seed: int) -> list[Text]:
    """Damaged forms of policies' answers: joined, looped, cut, given to another client, edited."""
    rng = random.Random(f"policies/{seed}")
    return [_damaged(rng, *rng.choice(said), rng.choice(said)[1]) for _ in range(count)] if said else []


def _text(rng: random.Random, among: Sequence[Situation]) -> Text:
    statement = draw_statement(rng, among)
    if rng.random() < 0.2:
        kind, warmth, defect = rng.choice(tuple(KINDS)), rng.choice(WARMTHS), rng.choice((None, None, *DEFECTS))
        fitting = rng.random() < 0.3  # answers may also fit by chance
        return statement.text, respond(rng, statement, kind, warmth, defect, fitting=fitting).text
    said = statement if rng.random() < 0.5 else _misheard(rng, statement, draw_statement(rng, among))
    response = " ".join(_sentence(rng, said) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    if rng.random() < 0.25:
        return statement.text, join_words(split_words(response)[:LONGEST])
    if rng.random() < 0.1:
        return statement.text, _details_alone(rng, statement)
    other = " ".join(_sentence(rng, said) for _ in range(2))
    return _damaged(rng, statement.text, response, other)


def _misheard(rng: random.Random, statement: Statement, other: Statement) -> Statement:
    """The statement with some details replaced by those of another one."""
    share = rng.choice((0.2, 0.4, 1.0))
    return replace(statement, **{name: getattr(other, name) for name in DETAILS if rng.random() < share})


def _sentence(rng: random.Random, statement: Statement) -> str:
    draw = rng.random()
    if draw < 0.36:
        return rng.choice(WARM if draw < 0.3 else COLD)
    return core(rng, statement, rng.choice(SENTENCE_KINDS))


def _details_alone(rng: random.Random, statement: Statement) -> str:
    details = list(heard(statement.text).values())
    chosen = rng.sample(details, rng.randrange(1, 5))
    return join_words([*split_words(rng.choice((", ", " and ", " ")).join(chosen)), *rng.choice(([], ["."]))][:LONGEST])


def _damaged(rng: random.Random, prompt: str, response: str, other: str) -> Text:
    words, others = split_words(response), split_words(other)
    if not words or not others:
        return prompt, response
    damage = rng.choices((_spliced, _looped, _cut, _exchanged, _edited), (0.3, 0.15, 0.1, 0.15, 0.3))[0]
    return prompt, join_words(damage(rng, words, [*others, *split_words(prompt)], others)[:LONGEST])


def _spliced(rng: random.Random, words: Words, _: Words, others: Words) -> Words:
    """Three to ten words of each answer."""
    at = rng.randrange(len(others))
    return words[: rng.randrange(1, min(len(words), 10) + 1)] + others[at : at + rng.randrange(3, 11)]


def _looped(rng: random.Random, words: Words, *_: Words) -> Words:
    at = rng.randrange(len(words))
    piece = words[at : at + rng.randrange(1, 10)]
    loops: tuple[Callable[[], Words], ...] = (
        lambda: words[:at] + piece * 4,
        lambda: words + words,
        lambda: piece * LONGEST,
    )
    return rng.choice(loops)()


def _cut(rng: random.Random, words: Words, *_: Words) -> Words:
    return words[: rng.randrange(len(words) + 1)]


def _exchanged(rng: random.Random, words: Words, _: Words, others: Words) -> Words:
    """The answer to another client, or the words of this one in another order."""
    return others if rng.random() < 0.7 else rng.sample(words, len(words))


def _edited(rng: random.Random, words: Words, near: Words, _: Words) -> Words:
    """One to three words replaced, removed, added or moved."""
    words = list(words)
    for _edit in range(rng.choice((1, 1, 1, 2, 3))):
        at, draw = rng.randrange(len(words)), rng.random()
        if draw < 0.4:
            words[at] = rng.choice(near) if rng.random() < 0.6 else rng.choice(VOCABULARY)
        elif draw < 0.6 and len(words) > 2:
            del words[at]
        elif draw < 0.8:
            words.insert(at, rng.choice(near))
        elif len(words) > 2:
            at = min(at, len(words) - 2)
            words[at], words[at + 1] = words[at + 1], words[at]
    return words


VOCABULARY = tuple(world_words())
