"""What the searches with a budget share: their first questions, and the memory of what they were told."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError


@dataclass
class History:
    """Candidates and their utilities, in the order told."""

    weights: list[Tensor] = field(default_factory=list)  # each (M,)
    utility: list[float] = field(default_factory=list)

    def add(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        self.weights += list(weights_WM)
        self.utility += utility_W.tolist()

    def __len__(self) -> int:
        return len(self.utility)

    def best(self) -> Tensor:
        return self.weights[max(range(len(self)), key=self.utility.__getitem__)]


def check_positive(**settings: int) -> None:
    """Raise a `UserError` for the first setting of a search that is below 1."""
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"method.search.{name}={value}: give a whole number above 0")


def within_budget(evaluations: int, experts: int) -> int:
    """Candidates of a search: one expert has but one blend."""
    return 1 if experts == 1 else evaluations


def nothing(experts: int) -> Tensor:
    """What a search asks when it is over."""
    return torch.empty(0, experts, dtype=torch.float64)
