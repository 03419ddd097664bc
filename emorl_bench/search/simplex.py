"""Coarse-to-fine search on the simplex: the hierarchical grid without the dimension that scaling makes redundant.

A simplex is cut at the midpoints of its edges into 2^(M-1) simplices (edgewise subdivision, Edelsbrunner & Grayson
2000). The one whose corners have the largest sum of utilities is cut again. Corners are shared, so ``M + levels *
M(M-1)/2`` evaluations reach a precision of 2^-levels: 18 for three experts and 1/32, where the cube asks for 135.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.search.successive_halving import SuccessiveHalving


@dataclass(frozen=True)
class SimplexSubdivision(SuccessiveHalving):
    """Settings: ``levels`` halvings. With ``confirm`` as many candidates cost half."""

    levels: int = 5

    def start(self, experts: int) -> SimplexSearch:
        """See `SearchStrategy.start`."""
        return SimplexSearch(experts, self.levels)

    def evaluations(self, experts: int) -> int:
        """Number of candidates that the search asks about."""
        return experts + self.levels * experts * (experts - 1) // 2


class SimplexSearch:
    """One search (`core.protocols.WeightSearch`). Points are integers over 2^levels, which can be compared exactly."""

    def __init__(self, experts: int, levels: int) -> None:
        """The first simplex has the experts as its corners."""
        self.experts, self.unit = experts, 2**levels
        self.corners = [tuple(self.unit if i == j else 0 for j in range(experts)) for i in range(experts)]
        self.utility: dict[tuple[int, ...], float] = {}
        self.rounds_left = levels if experts > 1 else 0
        self.asked: list[tuple[int, ...]] = []
        self.halved = False  # whether the last question was about the midpoints of `corners`

    def ask(self) -> Tensor:
        """The corners at first, and then the midpoints of the current simplex."""
        wanted = [] if self.utility else [*self.corners]
        self.halved = self.rounds_left > 0
        if self.halved:
            wanted += [_middle(a, b) for a, b in itertools.combinations(self.corners, 2)]
            self.rounds_left -= 1
        self.asked = [point for point in wanted if point not in self.utility]
        weights_WM = torch.tensor(self.asked, dtype=torch.float64).view(-1, self.experts)
        return weights_WM.div(self.unit)

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Note the utilities, and choose the best of the smaller simplices."""
        self.utility |= dict(zip(self.asked, utility_W.tolist(), strict=True))
        if self.halved:
            self.corners = max(subdivide(self.corners), key=lambda simplex: sum(self.utility[p] for p in simplex))

    def best(self) -> Tensor:
        """The weights with the highest utility."""
        point = max(self.utility, key=self.utility.__getitem__)
        return torch.tensor(point, dtype=torch.float64).div(self.unit)


def subdivide(corners: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """The 2^d simplices of the edgewise subdivision at the midpoints of the edges.

    Each is found by a walk. Two markers start at corners 0 and m and end at m and d. In each of d moves, one of them
    moves on by one corner. Each stop gives the midpoint of the two marked corners.
    """
    d = len(corners) - 1
    for m in range(d + 1):
        for first_moves in itertools.combinations(range(d), m):
            low, high = 0, m
            simplex = [_middle(corners[low], corners[high])]
            for move in range(d):
                low, high = (low + 1, high) if move in first_moves else (low, high + 1)
                simplex.append(_middle(corners[low], corners[high]))
            yield simplex


def _middle(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((x + y) // 2 for x, y in zip(a, b, strict=True))
