"""Optuna's samplers as weight searches: tree-structured Parzen estimators and a Gaussian process.

The estimators (TPE) are those of Bergstra et al. 2011. The Gaussian process is Optuna's GPSampler, which takes the
expected improvement.

Optuna sees the M-1 coordinates of a cube that `sticks` maps onto the simplex with constant density. So its prior is
uniform over blends, and no coordinate is redundant. The corners are asked first. After that candidates come in batches,
because decoding many weight vectors costs little more than one. TPE treats candidates that are not evaluated yet as bad
(its constant liar). As in the other searches, the best candidate is the one with the highest reported value.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.search.history import History, check_positive, nothing, within_budget
from emorl_bench.search.sticks import corners_of_cube, to_simplex
from emorl_bench.search.successive_halving import SuccessiveHalving

INSTALL = 'pip install -c constraints.txt -e ".[optuna]"'
SAMPLERS = ("tpe", "gp")


@dataclass(frozen=True)
class OptunaSearch(SuccessiveHalving):
    """Settings. ``startup``: random candidates, corners included, before the sampler's model is used."""

    sampler: Literal["tpe", "gp"] = "tpe"
    evaluations: int = 32
    batch: int = 4
    startup: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one of them is wrong, or optuna is not installed.
        """
        super().__post_init__()
        if self.sampler not in SAMPLERS:
            raise UserError(f"method.search.sampler={self.sampler}: unknown{did_you_mean(self.sampler, SAMPLERS)}")
        check_positive(evaluations=self.evaluations, batch=self.batch, startup=self.startup)
        self.candidates(self.evaluations)  # raises where the budget cannot pay for it
        if find_spec("optuna") is None:
            raise UserError(f"method.search.sampler={self.sampler} needs the extra: {INSTALL}")

    def start(self, experts: int) -> OptunaStudy:
        """See `SearchStrategy.start`."""
        return OptunaStudy(self, experts)


class OptunaStudy:
    """One search (`core.protocols.WeightSearch`)."""

    def __init__(self, settings: OptunaSearch, experts: int) -> None:
        """The corners are queued as the first candidates."""
        self.experts, self.batch, self.history = experts, settings.batch, History()
        self.evaluations = within_budget(settings.candidates(settings.evaluations), experts)
        self.names = [f"break{i}" for i in range(experts - 1)]
        self.study = _study(settings)
        for cube_D in corners_of_cube(experts).tolist():
            self.study.enqueue_trial(dict(zip(self.names, cube_D, strict=True)))
        self.trials: list[Any] = []  # asked about, and not reported yet

    def ask(self) -> Tensor:
        """The next batch; the corners first."""
        from optuna.distributions import FloatDistribution

        first = self.experts if not self.history else self.batch
        count = min(first, self.evaluations - len(self.history))
        if count <= 0:
            return nothing(self.experts)
        space = {name: FloatDistribution(0.0, 1.0) for name in self.names}
        self.trials = [self.study.ask(space) for _ in range(count)]
        cube_WD = np.array([[trial.params[name] for name in self.names] for trial in self.trials])
        return torch.from_numpy(to_simplex(cube_WD.reshape(count, self.experts - 1)))

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Report the utilities to Optuna."""
        for trial, utility in zip(self.trials, utility_W.tolist(), strict=True):
            self.study.tell(trial, utility)
        self.history.add(weights_WM, utility_W)

    def best(self) -> Tensor:
        """The weights with the highest utility."""
        return self.history.best()


def _study(settings: OptunaSearch) -> Any:
    """A study in memory, whose sampler draws from its own stream. Warnings about experimental features are hidden."""
    import optuna

    logging.getLogger("optuna").setLevel(logging.WARNING)
    given: dict[str, Any] = {"seed": settings.seed, "n_startup_trials": settings.startup}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler: Any = (
            optuna.samplers.TPESampler(**given, multivariate=True, constant_liar=True)
            if settings.sampler == "tpe"
            else optuna.samplers.GPSampler(**given)
        )
        return optuna.create_study(direction="maximize", sampler=sampler)
