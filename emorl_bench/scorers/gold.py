"""What an answer of the embedded world is worth in truth, by the grammar that the world is written with: no network.

Nothing is ever trained on it or chosen by it, but for the proxies of the over-optimisation study, which learn from its
labels. It reads prompts of the world only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.assets.world.grades import OBJECTIVES, golds, world_key
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class Gold(Rule):
    """``objective``: the grade of one objective, or None for the mean of the three."""

    name: str = "gold"
    objective: str | None = None

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1].

        Raises:
            UserError: a prompt that is no statement of the world.
        """
        grades_BK = torch.tensor(golds([example.prompt for example in examples], responses), dtype=torch.float32)
        grades_BK = grades_BK.reshape(-1, len(OBJECTIVES))
        return grades_BK.mean(1) if self.objective is None else grades_BK[:, OBJECTIVES.index(self.objective)]

    def fingerprint(self) -> str:
        """Of the code that judges: a changed rule is another truth."""
        return f"gold-{world_key()}"


def gold_scorers() -> dict[str, Gold]:
    """The gold scorer of each objective of `reflections`."""
    return {name: Gold(name, name) for name in OBJECTIVES}
