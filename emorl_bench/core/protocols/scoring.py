"""Scorers, which judge responses, and tasks, which hold prompts and scorers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.ledger import Cost
from emorl_bench.core.types import Example, Splits

Scores = Tensor | Sequence[float | None]
"""(B,) float32, or a list in which ``None`` says that the objective does not apply to a row (`core.masked`)."""


class Scorer(Protocol):
    """One objective: a pure function of prompts and responses. A higher score is better.

    `scorers.rule.Rule` and `scorers.rule.DeviceScorer` are base classes that answer most of what is asked here.
    """

    @property
    def name(self) -> str:
        """The name of the objective."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible score."""

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Scores:
        """One score for each of B responses, within `bounds` and without gradient."""

    def prepare(self) -> None:
        """Make what the scorer needs and does not find in the cache, such as trained weights. This may take minutes."""

    def on(self, device: torch.device) -> Scorer:
        """The same scorer on a device."""

    def held_out(self) -> Scorer:
        """The independently trained twin, which only the report uses. A rule is its own twin."""

    def fingerprint(self) -> str:
        """Hash of what the settings do not show, such as weights."""

    def costs(self) -> Mapping[str, Cost]:
        """The cost of each form of the scorer, by form, once it is prepared.

        It is empty for a scorer that has one form only.
        """


class Task(Protocol):
    """Prompts, and the K scorers that judge the answers to them."""

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """The scorer of each objective, by the objective's name."""

    def splits(self) -> Splits:
        """The prompts of all splits."""

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """The scorers that know the true value of an answer, by objective. Only the report uses them."""

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) mean gold scores of the best possible answers, one row for each preference.

        It is ``None`` where the best answers are not known.
        """

    def longest_answer(self) -> str | None:
        """An answer that must fit the limit of an answer's tokens; ``None`` where there is no such answer."""
