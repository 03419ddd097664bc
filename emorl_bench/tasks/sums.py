"""The embedded task whose reward is the truth: add numbers correctly, briefly and with the working shown.

The value of an answer follows from the sum (`emorl_bench.assets.sums.judge`). So the scorers are the gold, and the best
answer for each preference is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.assets.sums.judge import best_answer, best_for
from emorl_bench.assets.sums.prompts import LARGEST_SPLIT, SPLITS, draw_split, prompt_of, terms_of
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Splits
from emorl_bench.scorers.sums import SumScorer
from emorl_bench.tasks.base import TaskDefaults, hashed_splits

FEWEST_TERMS, MOST_TERMS = 2, 30


@dataclass(frozen=True, kw_only=True)
class Sums(TaskDefaults):
    """Sums of several terms.

    ``levels`` are the numbers of terms, each equally often. Terms are from 1 to ``largest_term``. Then come the sizes
    of the splits. ``assets`` names the world whose base models ``model=tiny_t5`` and ``model=tiny_gpt2`` are.
    ``max_new_tokens`` is the default of ``sampling.max_new_tokens``. The configuration reads both.
    """

    scorers: Mapping[str, Scorer]
    levels: tuple[int, ...] = (3, 4, 5)
    largest_term: int = 15
    train: int = 1200
    select: int = 48
    report: int = 96
    split_seed: int = 0
    assets: str = "sums"
    max_new_tokens: int = 28
    system_prompt: str | None = None
    template: str = "{prompt}"

    def splits(self) -> Splits:
        """All splits. No two have a sum in common, in whatever order its terms are written.

        Raises:
            UserError: a setting is out of range, or there are not enough different sums.
        """
        self._check()
        rows = {split: self._examples(split, getattr(self, split)) for split in SPLITS}
        return hashed_splits(rows)

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """Those of its scorers that are rules of this world: they are the truth."""
        return {name: scorer for name, scorer in self.scorers.items() if isinstance(scorer, SumScorer)}

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) float64 mean scores of the best answers; None where an objective is not one of this world's."""
        names = list(self.scorers)
        if not examples or list(self.gold_scorers()) != names:
            return None
        levels = Counter(len(terms_of(example.prompt)) for example in examples)
        rows = [_best(levels, dict(zip(names, row, strict=True))) for row in preferences_WK.tolist()]
        return torch.tensor(rows, dtype=torch.float64)

    def longest_answer(self) -> str:
        """The longest of the best answers: every step of the longest sum."""
        terms = (self.largest_term,) * max(self.levels)
        return best_answer(terms, len(terms) - 1)

    def _examples(self, split: str, count: int) -> tuple[Example, ...]:
        drawn = draw_split(split, count, self.split_seed, self.levels, self.largest_term)
        return tuple(Example(f"{split}-{i}", prompt_of(terms)) for i, terms in enumerate(drawn))

    def _check(self) -> None:
        levels = list(self.levels)
        fit = all(FEWEST_TERMS <= level <= MOST_TERMS for level in levels)
        if not levels or not fit or len(set(levels)) < len(levels):
            raise UserError(
                f"task.levels={levels}: give one or more different numbers of terms from {FEWEST_TERMS} to {MOST_TERMS}"
            )
        if self.largest_term < 1:
            raise UserError(f"task.largest_term={self.largest_term}: give 1 or more")
        for split in SPLITS:
            if not 1 <= (count := getattr(self, split)) <= LARGEST_SPLIT:
                raise UserError(f"task.{split}={count}: give a number of prompts from 1 to {LARGEST_SPLIT}")


def _best(levels: Mapping[int, int], preference: Mapping[str, float]) -> list[float]:
    """Mean scores of the best answers. ``levels``: number of terms -> number of sums."""
    best = {level: best_for(level, preference) for level in levels}
    total = sum(levels.values())
    return [sum(count * getattr(best[level], name) for level, count in levels.items()) / total for name in preference]
