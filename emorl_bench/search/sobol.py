"""Quasi-random search: scrambled Sobol points (Owen 1998), spread uniformly over the simplex (`sticks`).

It is the baseline of the other searches: it learns nothing from the utilities. All candidates may be asked at once, so
one batched decode evaluates them. Every preference asks about the same candidates, so ``evaluations`` pays for the
whole front. The corners (the experts themselves) come first, because uniform points almost never reach the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.search.history import History, check_positive, nothing, within_budget
from emorl_bench.search.sticks import sobol_points
from emorl_bench.search.successive_halving import SuccessiveHalving


@dataclass(frozen=True)
class Sobol(SuccessiveHalving):
    """Settings.

    ``corners``: whether the experts themselves are among the ``evaluations``. ``batch``: how many candidates are asked
    about together; ``None`` is all.
    """

    evaluations: int = 32
    batch: int | None = None
    corners: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one of them is wrong.
        """
        super().__post_init__()
        check_positive(evaluations=self.evaluations, batch=1 if self.batch is None else self.batch)
        self.candidates(self.evaluations)  # raises where the budget cannot pay for it

    def start(self, experts: int) -> SobolSearch:
        """See `SearchStrategy.start`."""
        return SobolSearch(self, experts)


class SobolSearch:
    """One search (`core.protocols.WeightSearch`)."""

    def __init__(self, settings: Sobol, experts: int) -> None:
        """Draw all candidates."""
        candidates = settings.candidates(settings.evaluations)
        self.batch, self.history = settings.batch or candidates, History()
        inside_WM = torch.from_numpy(sobol_points(candidates, experts, settings.seed))
        corners_MM = torch.eye(experts, dtype=torch.float64) if settings.corners else nothing(experts)
        self.points_WM = torch.cat([corners_MM, inside_WM])[: within_budget(candidates, experts)]

    def ask(self) -> Tensor:
        """The next batch."""
        return self.points_WM[len(self.history) :][: self.batch]

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Note the utilities."""
        self.history.add(weights_WM, utility_W)

    def best(self) -> Tensor:
        """The weights with the highest utility."""
        return self.history.best()
