"""Does the response repeat itself? Distinct bigrams over bigrams, within the response (`indicators.text`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.types import Example
from emorl_bench.indicators.text import diversity_2
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class Diversity2(Rule):
    """Distinct bigrams over bigrams. Fewer than two words have no bigram and score 0.

    A short text has few repeated bigrams, so use `length_band` beside this scorer.
    """

    name: str = "diversity_2"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]."""
        return torch.tensor([diversity_2([response]) for response in responses], dtype=torch.float32)
