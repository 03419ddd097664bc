"""Has the response a suitable length? 1 inside a band of words, linear slopes outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.indicators.text import words
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class LengthBand(Rule):
    """``low`` to ``high`` words score 1.

    The score rises from 0 at no word to 1 at ``low``, and falls to 0 over ``fall`` words above ``high``.
    """

    low: int = 10
    high: int = 40
    fall: int = 40
    name: str = "length_band"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: the band is empty, or ``fall`` is below 1.
        """
        if not 1 <= self.low <= self.high or self.fall < 1:
            raise UserError(
                f"scorer {self.name}: low={self.low}, high={self.high}, fall={self.fall}: "
                "needs 1 <= low <= high and a fall of at least 1 word"
            )

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]: ``clip(min(n / low, 1 - (n - high) / fall), 0, 1)`` of n words."""
        words_B = torch.tensor([len(words(response)) for response in responses], dtype=torch.float32)
        return torch.minimum(words_B / self.low, 1 - (words_B - self.high) / self.fall).clamp(0.0, 1.0)
