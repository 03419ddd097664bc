"""The questions and claims of ``claims.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from studies.claims.measures import KL_AT_EQUAL_GOLD, MEASURES

FILE = Path(__file__).with_name("claims.yaml")
HIGHER, LOWER, EQUAL, NOT_LOWER = "higher", "lower", "equal", "not lower"
REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"
SAYS = {HIGHER: {HIGHER}, LOWER: {LOWER}, EQUAL: {EQUAL}, NOT_LOWER: {HIGHER, EQUAL}}
"""What a claim expects -> the verdicts with which it is reproduced; the other decided ones refute it."""


@dataclass(frozen=True)
class Contrast:
    """One comparison: a row against another one, or against a number, in one measure."""

    ours: str
    theirs: str | float
    measure: str
    expects: str = ""
    where: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Both sides and the measure."""
        at = f" ({', '.join(self.where)})" if self.where else ""
        return f"{self.ours} − {self.theirs}: {self.measure}{at}"

    def outcome(self, word: str) -> str:
        """What a verdict (`report.verdicts.Verdict.word`) means for the claim."""
        if word == UNDECIDED:
            return UNDECIDED
        return REPRODUCED if word in SAYS[self.expects] else REFUTED


@dataclass(frozen=True)
class Claim:
    """A published claim, and the contrasts that decide it. One without contrasts says in ``decided`` what does."""

    text: str
    paper: str
    published: str
    contrasts: tuple[Contrast, ...] = ()
    decided: str = ""

    def outcome(self, words: Sequence[str]) -> str:
        """The claim is what all of its contrasts are; where they differ, each one is named in its own line."""
        found = {contrast.outcome(word) for contrast, word in zip(self.contrasts, words, strict=True)}
        return found.pop() if len(found) == 1 else "in part"


@dataclass(frozen=True)
class Question:
    """One question: its sweep, the claims that it decides, and the rows that all others are compared with."""

    name: str
    asks: str
    sweep: str
    against: tuple[str, ...]
    measure: str
    """In which they are compared."""
    claims: tuple[Claim, ...]


def questions(file: Path = FILE) -> list[Question]:
    """All questions, in order.

    Raises:
        ValueError: a contrast names an unknown measure or expectation.
    """
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    claims: dict[str, list[Claim]] = {name: [] for name in found["questions"]}
    for claim in found["claims"]:
        claims[claim["question"]].append(_claim(claim))
    return [
        Question(
            name,
            one["asks"],
            one["sweep"],
            tuple(one.get("against", ())),
            one.get("measure", "gold"),
            tuple(claims[name]),
        )
        for name, one in found["questions"].items()
    ]


def elsewhere(file: Path = FILE) -> list[Claim]:
    """The claims that no sweep decides."""
    return [_claim(one) for one in yaml.safe_load(file.read_text(encoding="utf-8"))["elsewhere"]]


def _claim(keys: Mapping[str, Any]) -> Claim:
    contrasts = tuple(_contrast(one) for one in keys.get("contrasts", ()))
    return Claim(keys["claim"], keys["paper"], keys["published"], contrasts, keys.get("decided", ""))


def _contrast(keys: Mapping[str, Any]) -> Contrast:
    conditions = tuple(keys.get("where", ()))
    contrast = Contrast(keys["ours"], keys["theirs"], keys["measure"], keys["expects"], conditions)
    if contrast.measure not in MEASURES and contrast.measure != KL_AT_EQUAL_GOLD:
        raise ValueError(f"{FILE.name}: measure {contrast.measure!r} is unknown")
    if contrast.expects not in SAYS:
        raise ValueError(f"{FILE.name}: expects {contrast.expects!r} is none of {', '.join(SAYS)}")
    return contrast
