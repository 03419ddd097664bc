"""Does the response end in ``#### number``, once, as GSM8K's answers do (Cobbe et al., arXiv 2110.14168)?

One third each for having the mark, having it once, and ending with it: a policy can improve step by step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.types import Example
from emorl_bench.scorers.gsm8k_accuracy import NUMBER
from emorl_bench.scorers.rule import Rule

MARKED = re.compile(rf"####\s*(?:{NUMBER.pattern})")


@dataclass(frozen=True)
class AnswerFormat(Rule):
    """The share of the three conditions that a response meets."""

    name: str = "answer_format"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) of 0, 1/3, 2/3 or 1."""
        return torch.tensor([_steps(response) / 3 for response in responses])


def _steps(response: str) -> int:
    found = list(MARKED.finditer(response))
    if not found:
        return 0
    return 1 + (response.count("####") == 1) + (not response[found[-1].end() :].strip(" \t\n."))
