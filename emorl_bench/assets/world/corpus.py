"""Dialogues that the base models learn from.

The counsellors of the base models' dialogues have habits: how they answer leans on the client's style (kind of
response), feeling (warmth) and behaviour (broken speech). So a base model's most likely answer differs between prompts,
and each quality is somewhere in its repertoire, seldom all together.
"""

from __future__ import annotations

import random

from emorl_bench.assets.world.responses import DEFECTS, KINDS, Response, core, respond
from emorl_bench.assets.world.statements import Statement, draw_statement, situations

# index of the style / feeling / behaviour -> what that client's counsellors tend to
KIND_HABIT = ("complex", "question", "simple", "advice", "confrontation")
WARMTH_HABIT = ("warm", "cold", "neutral", "very warm", "warm", "neutral") * 2
DEFECT_HABIT = (None, "telegraphic", "inverted", None, "ungrammatical") * 3
KIND_STRENGTH, WARMTH_STRENGTH, DEFECT_STRENGTH = 0.5, 0.5, 0.35
FITTING_STRENGTH = 0.28  # how often warmth answers to the feeling on purpose; else by chance
WARMTHS = ("very warm", "warm", "warm", "neutral", "cold")


def habitual_response(rng: random.Random, statement: Statement) -> Response:
    """What a counsellor of mixed quality would say."""
    kind = KIND_HABIT[statement.style] if rng.random() < KIND_STRENGTH else rng.choice((*["complex"] * 5, *KINDS))
    warmth = WARMTH_HABIT[statement.feeling] if rng.random() < WARMTH_STRENGTH else rng.choice(WARMTHS)
    defect = DEFECT_HABIT[statement.behaviour]
    if rng.random() > DEFECT_STRENGTH:
        defect = rng.choice((*[None] * 8, *DEFECTS))
    return respond(rng, statement, kind, warmth, defect, fitting=rng.random() < FITTING_STRENGTH)


def dialogue(rng: random.Random) -> tuple[str, str]:
    """Prompt and response of mixed quality, in a training situation."""
    statement = draw_statement(rng, situations("train"))
    return statement.text, habitual_response(rng, statement).text


def lesson(rng: random.Random) -> tuple[str, str]:
    """A dialogue that only listens: details given back and nothing else, so that a small model soon learns to copy."""
    statement = draw_statement(rng, situations("train"))
    return statement.text, f"{core(rng, statement, 'complex')} {core(rng, statement, 'simple')}"
