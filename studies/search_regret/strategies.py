"""The weight searches that the regret studies compare, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.record import Options
from emorl_bench.core.errors import UserError
from emorl_bench.search.hierarchical import HierarchicalGrid
from emorl_bench.search.history import History
from emorl_bench.search.optuna_study import INSTALL, OptunaSearch
from emorl_bench.search.simplex import SimplexSubdivision
from emorl_bench.search.sobol import Sobol
from emorl_bench.search.successive_halving import SuccessiveHalving
from emorl_bench.search.ucb_front import UcbFront
from studies.search_regret.trials import Judged, Strategy

CONFIRM = "+confirm"  # suffix of the names of searches whose leaders are graded again
FRESH = "+confirm on fresh"  # the same, where the fresh half alone decides between leaders
LEADERS = 3
EVALUATIONS = 32
ANSWER_ALL = ("random", "sobol", "ucb_front")  # their questions do not depend on the preference
LEFT_OUT = [] if find_spec("optuna") else [f"optuna_tpe and optuna_gp; to have them: {INSTALL}"]

Make = Callable[[int, int, int | None], Strategy]  # evaluations, seed, leaders to confirm -> strategy


@dataclass(frozen=True)
class Random(SuccessiveHalving):
    """Uniform weights, one after the other: the search that every other must beat.

    Attributes:
        evaluations: the number of blends.
        seed: the seed of the weights.
    """

    evaluations: int
    seed: int = 0

    def start(self, experts: int) -> RandomSearch:
        """See `core.protocols.SearchStrategy.start`."""
        count = self.candidates(self.evaluations)
        return RandomSearch(np.random.default_rng(self.seed).dirichlet(np.ones(experts), count))


class RandomSearch:
    """One search; see `core.protocols.WeightSearch`."""

    def __init__(self, points_WM: NDArray[np.float64]) -> None:
        """Ask about ``points_WM``, in their order."""
        self.points_WM, self.history = torch.from_numpy(points_WM), History()

    def ask(self) -> Tensor:
        """See `core.protocols.WeightSearch.ask`."""
        return self.points_WM[len(self.history) :][:1]

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """See `core.protocols.WeightSearch.tell`."""
        self.history.add(weights_WM, utility_W)

    def best(self) -> Tensor:
        """See `core.protocols.WeightSearch.best`."""
        return self.history.best()


def strategies() -> dict[str, Make]:
    """How each strategy is made, by name; without Optuna its strategies are missing."""
    known: dict[str, Make] = {
        "random": lambda n, seed, c: Random(n, seed, confirm=c),
        "sobol": lambda n, seed, c: Sobol(n, batch=1, seed=seed, confirm=c),
        "cube": lambda n, seed, c: HierarchicalGrid(confirm=c),
        "simplex": lambda n, seed, c: SimplexSubdivision(confirm=c),
        "ucb_front": lambda n, seed, c: UcbFront(n, seed=seed, confirm=c),
    }
    if not LEFT_OUT:
        known["optuna_tpe"] = lambda n, seed, c: OptunaSearch("tpe", n, seed=seed, confirm=c)
        known["optuna_gp"] = lambda n, seed, c: OptunaSearch("gp", n, seed=seed, confirm=c)
    return known


@dataclass(frozen=True)
class Variant:
    """A search as it is compared.

    Attributes:
        make: makes the strategy.
        confirm: which prompts decide between leaders that are graded again; None: leaders are not graded again.
    """

    make: Make
    confirm: Judged | None = None

    def __call__(self, evaluations: int, seed: int) -> Strategy:
        """The strategy for a number of evaluations and a seed."""
        return self.make(evaluations, seed, None if self.confirm is None else LEADERS)


def variants(*, confirm: bool) -> Mapping[str, Variant]:
    """The searches by name.

    ``confirm`` adds those whose leaders are graded again, which make sense where there is noise.
    """
    found = {name: Variant(make) for name, make in strategies().items()}
    if confirm:
        found |= {name + CONFIRM: Variant(make, "both") for name, make in strategies().items() if name != "optuna_gp"}
        found |= {name + FRESH: Variant(strategies()[name], "fresh") for name in ("random", "sobol")}
    return found


def numbers(given: Options, key: str, least: int) -> list[int]:
    """The numbers that an option lists.

    Raises:
        UserError: the option lists something else than whole numbers of ``least`` or more.
    """
    text = given.extra[key]
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise UserError(f"--{key}={text}: give whole numbers of {least} or more, separated by commas")
    return [int(part) for part in parts]
