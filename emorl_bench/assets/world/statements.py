"""Client statements and their split by situation.

A situation is a behaviour in the circumstances of an event (14 x 12). The split is a Latin pattern over that grid:
every behaviour and every event is met in training, but never the two together that a report statement is about.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from emorl_bench.assets.world.lexicon import BEHAVIOURS, EVENTS, FEELINGS, HOPES, OBSTACLES, STYLES, Behaviour

Situation = tuple[int, int]  # behaviour, event
SPLITS = ("train", "select", "report")  # of the task; a fourth, "audit", is for `emorl-assets check`


@dataclass(frozen=True, slots=True)
class Statement:
    """What a client says; the fields index the tuples of `lexicon`."""

    behaviour: int
    event: int
    feeling: int
    hope: int
    obstacle: int
    style: int

    @property
    def situation(self) -> Situation:
        return self.behaviour, self.event

    @property
    def topic(self) -> Behaviour:
        return BEHAVIOURS[self.behaviour]

    @property
    def text(self) -> str:
        return STYLES[self.style].format(
            doing=self.topic.doing,
            change=self.topic.change,
            event=EVENTS[self.event],
            feeling=FEELINGS[self.feeling],
            hope=HOPES[self.hope],
            obstacle=OBSTACLES[self.obstacle],
        )


def split_of(situation: Situation) -> str:
    """Three sevenths of the situations are kept from every kind of training: one for selection, one for the report, and
    one for the audit of the task itself, which no choice in the task's design has looked at.
    """
    behaviour, event = situation
    return {0: "report", 1: "select", 2: "audit"}.get((behaviour + event) % 7, "train")


def half_of(situation: Situation) -> int:
    """Which half of the labelled data a situation belongs to: the two sets of scorers share no statement."""
    behaviour, event = situation
    return (behaviour // 2 + event) % 2


@lru_cache(maxsize=16)
def situations(split: str, half: int | None = None) -> tuple[Situation, ...]:
    grid = itertools.product(range(len(BEHAVIOURS)), range(len(EVENTS)))
    return tuple(s for s in grid if split_of(s) == split and half in (None, half_of(s)))


def draw_statement(rng: random.Random, among: Sequence[Situation]) -> Statement:
    behaviour, event = rng.choice(among)
    pick = (rng.randrange(len(phrases)) for phrases in (FEELINGS, HOPES, OBSTACLES, STYLES))
    return Statement(behaviour, event, *pick)


def sample_statements(split: str, count: int, seed: int, half: int | None = None) -> list[Statement]:
    """``count`` distinct statements of one split."""
    rng, among = random.Random(f"statements/{split}/{seed}"), situations(split, half)
    drawn: dict[Statement, None] = {}
    while len(drawn) < count:
        drawn.setdefault(draw_statement(rng, among))
    return list(drawn)
