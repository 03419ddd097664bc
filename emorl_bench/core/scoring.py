"""The interfaces between an answer and its reward: scorers, tasks that hold them, and weightings of their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from emorl_bench.core.ledger import Cost
from emorl_bench.core.types import Example, Metrics, Splits

Scores = Tensor | Sequence[float | None]
"""(B,) float32, or a list in which ``None`` says that the objective does not apply to a row (`core.applicable`)."""


class Scorer(Protocol):
    """One objective: a pure function of prompts and responses. Higher is better, always within ``bounds``."""

    @property
    def name(self) -> str:
        """The name of the objective."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible score."""

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Scores:
        """One score for each of B responses, without gradient."""

    def prepare(self) -> None:
        """Make what the scorer needs and does not find in the cache, such as trained weights. This may take minutes."""

    def on(self, device: torch.device) -> Scorer:
        """The same scorer on a device."""

    def held_out(self) -> Scorer:
        """The independently trained twin, which is used in the report only. A rule is its own twin."""

    def fingerprint(self) -> str:
        """Hash of what the settings do not show, such as weights."""


@runtime_checkable
class Priced(Protocol):
    """A scorer that exists in several forms of different cost."""

    def costs(self) -> Mapping[str, Cost]:
        """Form -> its cost, once the scorer is prepared."""


class Task(Protocol):
    """Prompts, and the K scorers that judge the answers to them."""

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """Objective -> its scorer."""

    def splits(self) -> Splits:
        """The prompts of all splits."""

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """Objective -> the scorer that knows the true value of an answer. Only the report uses it."""

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) mean gold scores of the best possible answers to ``examples``, one row for each preference (W, K).

        ``None`` where the best answers are not known.
        """

    def longest_answer(self) -> str | None:
        """An answer that must fit the limit of an answer's tokens; ``None`` where there is no such answer."""


class Weighting(Protocol):
    """How K scores become one reward, and how that changes while training goes on."""

    def reward(self, scores_BK: Tensor) -> Tensor:
        """(B, K) scores -> (B,) rewards."""

    def observe(self, validation_K: Tensor) -> None:
        """Note the K mean scores of a validation, after which the weights may change."""

    def utility(self, scores_K: Tensor) -> float:
        """The value of one mean score vector (K,): what checkpoints are chosen by."""


@runtime_checkable
class Moving(Weighting, Protocol):
    """A `Weighting` whose weights change while training goes on.

    Its state is never saved. It follows from the arguments of all calls of `observe`, in order; a run that resumes
    repeats these calls.
    """

    def metrics(self) -> Metrics:
        """``weights/<objective>``, and further ones as ``weighting/...``. A metric that has no value yet is NaN."""


@runtime_checkable
class Separable(Protocol):
    """A `Weighting` in two steps: ``reward(scores) = weighted(shaped(scores))``."""

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """Apply the shape of the reward, such as a logarithm, to each objective separately: (B, K) -> (B, K)."""

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        """(B, K) shaped scores -> (B,): their linear combination."""
