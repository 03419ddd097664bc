"""The embedded task: answer a client's statement with a reflection that is warm, sound and brief.

This project generates the prompts. They are split by situation (what the client does x what happened to them): 96
situations for training, 24 for selection, 24 for the report, and 24 for the audit of the task itself (`emorl-assets
check`). Base models and scorers have seen only statements of the 96 training situations. The true value of an answer is
known, and so are the best answers (docs/arena.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.assets.world.best import ceilings
from emorl_bench.assets.world.grades import OBJECTIVES
from emorl_bench.assets.world.statements import SPLITS, sample_statements
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Splits
from emorl_bench.scorers.gold import gold_scorers
from emorl_bench.tasks.base import TaskDefaults, hashed_splits

MOST_WORDS = (
    23  # of a legal answer: one less than the 24 tokens of a policy's answer, of which the last is the end token
)
GRADED_ON = ("report", "audit")
LARGEST_SPLIT = 20_000  # of the 144,000 statements that the situations of the smaller splits can make


@dataclass(frozen=True)
class Reflections(TaskDefaults):
    """Sizes of the splits, and the seed that draws them. They are the same for every run of a comparison.

    ``graded_on`` names the situations of the report prompts: ``report``, or ``audit`` for the check of the task itself.
    ``assets`` names the world whose base models ``model=tiny_t5`` and ``model=tiny_gpt2`` are. ``max_new_tokens`` is
    the default of ``sampling.max_new_tokens``. The configuration reads both.
    """

    scorers: Mapping[str, Scorer]
    train: int = 2000
    select: int = 48
    report: int = 96
    split_seed: int = 0
    graded_on: str = "report"
    assets: str = "reflections"
    max_new_tokens: int = 24

    def splits(self) -> Splits:
        """All splits, drawn by ``split_seed``.

        Raises:
            UserError: a setting is out of range.
        """
        rows = {split: self._examples(split) for split in SPLITS}
        return hashed_splits(rows)

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """The truth for the objectives that the world defines. Other scorers of the task have no gold."""
        return {name: scorer for name, scorer in gold_scorers().items() if name in self.scorers}

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) by enumeration; None where the task's objectives are not the world's own three."""
        if tuple(self.scorers) != OBJECTIVES:
            return None
        prompts = [example.prompt for example in examples]
        return torch.from_numpy(ceilings(prompts, preferences_WK.double().numpy(), MOST_WORDS))

    def _examples(self, split: str) -> tuple[Example, ...]:
        count: int = getattr(self, split)
        if not 1 <= count <= LARGEST_SPLIT:
            raise UserError(f"task.{split}={count} is out of range; give a number of prompts from 1 to {LARGEST_SPLIT}")
        if self.graded_on not in GRADED_ON:
            raise UserError(f"task.graded_on={self.graded_on!r} is unknown; give {' or '.join(GRADED_ON)}")
        statements = sample_statements(self.graded_on if split == "report" else split, count, self.split_seed)
        return tuple(Example(f"{split}-{i}", statement.text) for i, statement in enumerate(statements))
