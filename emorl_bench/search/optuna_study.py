"""Optuna's samplers as weight searches: tree-structured Parzen estimators (Bergstra et al. 2011) and a Gaussian process
with expected improvement (Optuna's GPSampler).

Optuna sees the M-1 coordinates of a cube that `sticks` maps onto the simplex with constant density, so its prior is
uniform over blends and no coordinate is redundant. The corners are asked first; after that candidates come in batches,
because many weight vectors are decoded for little more than one; TPE treats those still out as bad (its constant
liar). Optuna's "best" is the best value told, as for the other searches.
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
        super().__post_init__()
        if self.sampler not in SAMPLERS:
            raise UserError(f"method.search.sampler={self.sampler}: unknown{did_you_mean(self.sampler, SAMPLERS)}")
        check_positive(evaluations=self.evaluations, batch=self.batch, startup=self.startup)
        self.candidates(self.evaluations)  # that it can be paid
        if find_spec("optuna") is None:
            raise UserError(f"method.search.sampler={self.sampler} needs the extra: {INSTALL}")

    def start(self, experts: int) -> OptunaStudy:
        return OptunaStudy(self, experts)


class OptunaStudy:
    """One search; see `core.protocols.WeightSearch`."""

    def __init__(self, settings: OptunaSearch, experts: int) -> None:
        self.experts, self.batch, self.history = experts, settings.batch, History()
        self.evaluations = within_budget(settings.candidates(settings.evaluations), experts)
        self.names = [f"break{i}" for i in range(experts - 1)]
        self.study = _study(settings)
        for cube_D in corners_of_cube(experts).tolist():
            self.study.enqueue_trial(dict(zip(self.names, cube_D, strict=True)))
        self.trials: list[Any] = []  # asked about and not told of

    def ask(self) -> Tensor:
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
        for trial, utility in zip(self.trials, utility_W.tolist(), strict=True):
            self.study.tell(trial, utility)
        self.history.add(weights_WM, utility_W)

    def best(self) -> Tensor:
        return self.history.best()


def _study(settings: OptunaSearch) -> Any:
    """A study in memory whose sampler draws from its own stream; notices about experimental parts are left out."""
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
