"""Is the response more than a copy of the prompt? Word Levenshtein distance over the longer length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.types import Example
from emorl_bench.indicators.text import edit_rate
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class EditRate(Rule):
    """Word-level distance from the prompt. An empty response scores 0, although its distance is 1."""

    name: str = "edit_rate"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]."""
        pairs = zip(examples, responses, strict=True)
        rates = [edit_rate(e.prompt, response) if response.strip() else 0.0 for e, response in pairs]
        return torch.tensor(rates, dtype=torch.float32)
