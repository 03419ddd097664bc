"""What the searches with a budget share: their first candidates, and the history of candidates and utilities."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError


@dataclass
class History:
    """Candidates and their utilities, in the order in which they were reported."""

    weights: list[Tensor] = field(default_factory=list)  # each (M,)
    utility: list[float] = field(default_factory=list)

    def add(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Append candidates (W, M) and their utilities (W,)."""
        self.weights += list(weights_WM)
        self.utility += utility_W.tolist()

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.utility)

    def best(self) -> Tensor:
        """(M,) the weights with the highest utility; the first of equals."""
        return self.weights[max(range(len(self)), key=self.utility.__getitem__)]


def check_positive(**settings: int) -> None:
    """Check settings of a search.

    Raises:
        UserError: the first setting that is below 1.
    """
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"method.search.{name}={value}: give a whole number above 0")


def within_budget(evaluations: int, experts: int) -> int:
    """Number of candidates of a search. One expert has only one blend."""
    return 1 if experts == 1 else evaluations


def nothing(experts: int) -> Tensor:
    """What a search asks when it is over: (0, M)."""
    return torch.empty(0, experts, dtype=torch.float64)
