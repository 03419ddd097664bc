"""Reads what ``emorl-generate RUN --explain --json FILE`` has written. Anything else is refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from emorl_bench.core.errors import UserError

FIX = "write it again with emorl-generate RUN --explain --json FILE"
PARTS = ("margin", "decided", "pivotal", "agrees")
MAY_LACK = ("decided", "pivotal", "agrees")  # of no token at all there is no mean
EQUAL = 1e-6  # shares are written in full, and add up to the margin but for the order of the sum


class Word(NamedTuple):
    """One decision. Lists have a place for each expert."""

    text: str
    margin: float
    shares: Sequence[float]
    decided: Sequence[float] | None
    runner_up: str
    alone: Sequence[str]
    agrees: Sequence[bool]
    pivotal: Sequence[bool]


@dataclass(frozen=True)
class Totals:
    """Sums over all answers, in parts of 1 (`ensemble.explaining.records.Explanation.totals`)."""

    tokens: int
    disputed: float
    parts: Mapping[str, Sequence[float] | None]
    """Each of `PARTS` -> a number for each expert."""


@dataclass(frozen=True)
class Told:
    """The explained answers of one run to one preference."""

    file: Path
    run: str
    """Method and run directory, such as ``emorl/s0-1a2b3c4d``."""
    asked: Mapping[str, float]
    """Objective -> the weight that was asked for."""
    experts: Sequence[str]
    weights: Sequence[float]
    totals: Totals
    answers: Sequence[tuple[str, Sequence[Word]]]
    """Prompts, each with the words of its answer."""


@dataclass(frozen=True)
class Place:
    """A value of the file with its key, so that a refusal can name both."""

    file: Path
    key: str
    value: object

    def refused(self, wanted: str) -> UserError:
        """What to raise where the value is something else."""
        shown = repr(self.value)
        shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
        return UserError(f"--explained {self.file}: {self.key}={shown} is not {wanted}; {FIX}")

    def at(self, name: str) -> Place:
        """The value of an object under a name."""
        key = f"{self.key}.{name}" if self.key else name
        if not isinstance(self.value, dict) or name not in self.value:
            raise UserError(f"--explained {self.file}: it has no {key}; {FIX}")
        return Place(self.file, key, self.value[name])

    def items(self, count: int | None = None) -> Iterator[Place]:
        """The values of a list, which has ``count`` of them."""
        if not isinstance(self.value, list) or (count is not None and len(self.value) != count):
            raise self.refused("a list" if count is None else f"a list of {count}, one for each expert")
        yield from (Place(self.file, f"{self.key}[{i}]", value) for i, value in enumerate(self.value))

    def text(self) -> str:
        """The value, a text."""
        if not isinstance(self.value, str):
            raise self.refused("a text")
        return self.value

    def number(self) -> float:
        """The value, a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise self.refused("a finite number")
        return self.value

    def flag(self) -> bool:
        """The value, true or false."""
        if not isinstance(self.value, bool):
            raise self.refused("true or false")
        return self.value


def read_explained(file: Path) -> list[Told]:
    """The runs of the file that have explained answers.

    Raises:
        UserError: there is no such file, it is damaged or another program's, or nothing in it is explained.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--explained {file} cannot be read ({error.strerror}); {FIX}") from error
    except ValueError as error:
        raise UserError(f"--explained {file} is damaged or no JSON ({error}); {FIX}") from error
    root = Place(file, "", content)
    preference = root.at("preference")
    if not isinstance(preference.value, dict):
        raise preference.refused("an object of objectives with weights")
    asked = {name: preference.at(name).number() for name in preference.value}
    runs = [run for run in root.at("runs").items() if isinstance(run.value, dict) and "explanation" in run.value]
    if not runs:
        raise UserError(f"--explained {file}: no run in it is explained; {FIX}")
    return [_told(run, asked) for run in runs]


def _told(run: Place, asked: Mapping[str, float]) -> Told:
    found = run.at("explanation")
    experts = [name.text() for name in found.at("experts").items()]
    answers = [
        (answer.at("prompt").text(), [_word(token, len(experts)) for token in answer.at("tokens").items()])
        for answer in found.at("answers").items()
    ]
    weights, totals = _numbers(found.at("weights"), len(experts)), _totals(found.at("totals"), len(experts))
    return Told(run.file, run.at("run").text(), asked, experts, weights, totals, answers)


def _word(token: Place, experts: int) -> Word:
    shares, margin = _numbers(token.at("shares"), experts), token.at("margin").number()
    if abs(sum(shares) - margin) > EQUAL * (1 + abs(margin)):
        raise token.at("shares").refused(f"a division of the margin {margin}")
    return Word(
        token.at("text").text(),
        margin,
        shares,
        _numbers_or_none(token.at("decided"), experts),
        token.at("runner_up").text(),
        [said.text() for said in token.at("alone").items(experts)],
        [one.flag() for one in token.at("agrees").items(experts)],
        [one.flag() for one in token.at("pivotal").items(experts)],
    )


def _totals(totals: Place, experts: int) -> Totals:
    parts = {
        name: _numbers_or_none(totals.at(name), experts) if name in MAY_LACK else _numbers(totals.at(name), experts)
        for name in PARTS
    }
    return Totals(int(totals.at("tokens").number()), totals.at("disputed").number(), parts)


def _numbers(place: Place, count: int) -> list[float]:
    return [one.number() for one in place.items(count)]


def _numbers_or_none(place: Place, count: int) -> list[float] | None:
    return None if place.value is None else _numbers(place, count)
