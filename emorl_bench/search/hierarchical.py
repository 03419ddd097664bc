"""EMORL's hierarchical grid on the unit cube, for any number of experts (2505.02579, section 3.3, algorithm 1).

Each round lays 3^M points over the current cell, and zooms into the sub-cell whose 2^M corners have the largest sum of
utilities. It asks for ``3^M * levels`` evaluations and reaches a precision of 2^-levels. A blend under argmax does not
change when its weights are scaled, so one dimension of the cube is redundant (see `simplex`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.search.successive_halving import SuccessiveHalving


@dataclass(frozen=True)
class HierarchicalGrid(SuccessiveHalving):
    """Settings: ``levels`` rounds of ``3^M`` evaluations. With ``confirm`` as many candidates cost half."""

    levels: int = 5

    def start(self, experts: int) -> HierarchicalGridSearch:
        """See `SearchStrategy.start`."""
        return HierarchicalGridSearch(experts, self.levels)

    def evaluations(self, experts: int) -> int:
        """Number of candidates that the search asks about, repeated ones included."""
        return int(3**experts * self.levels)


class HierarchicalGridSearch:
    """One search (`core.protocols.WeightSearch`)."""

    def __init__(self, experts: int, levels: int) -> None:
        """The first cell is the whole cube."""
        self.experts, self.levels = experts, levels
        self.low_M = torch.zeros(experts, dtype=torch.float64)
        self.width = 1.0
        self.round = 0
        self.seen: list[tuple[float, Tensor]] = []

    def ask(self) -> Tensor:
        """The 3^M points of the current cell."""
        if self.round == self.levels:
            return torch.empty(0, self.experts, dtype=torch.float64)
        grid = itertools.product((0.0, 0.5, 1.0), repeat=self.experts)
        return self.low_M + self.width * torch.tensor(list(grid), dtype=torch.float64)

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Note the utilities, and zoom into the best sub-cell."""
        self.seen += list(zip(utility_W.tolist(), weights_WM, strict=True))
        grid = utility_W.reshape([3] * self.experts)
        cells = itertools.product((0, 1), repeat=self.experts)
        best = max(cells, key=lambda cell: float(grid[tuple(slice(i, i + 2) for i in cell)].sum()))
        self.width /= 2
        self.low_M = self.low_M + self.width * torch.tensor(best, dtype=torch.float64)
        self.round += 1

    def best(self) -> Tensor:
        """The weights with the highest utility of all rounds."""
        return max(self.seen, key=lambda pair: pair[0])[1]
