"""One weight search on one known surface: its regret after every evaluation, and its own time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.search_surfaces import SURFACES, Surface
from emorl_bench.core.protocols import FrontSearch, FrontStrategy, SearchStrategy, WeightSearch
from emorl_bench.ensemble.front import DIGITS, directions
from emorl_bench.search.told import Told

Floats = NDArray[np.float64]
Strategy = SearchStrategy | FrontStrategy


@dataclass(frozen=True)
class Random:
    """Uniform weights, one after the other: what every search has to beat."""

    evaluations: int
    seed: int = 0

    def start(self, experts: int) -> RandomSearch:
        return RandomSearch(np.random.default_rng(self.seed).dirichlet(np.ones(experts), self.evaluations))


class RandomSearch:
    """One search; see `core.protocols.WeightSearch`."""

    def __init__(self, points_WM: Floats) -> None:
        self.points_WM, self.told = torch.from_numpy(points_WM), Told()

    def ask(self) -> Tensor:
        return self.points_WM[len(self.told) :][:1]

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        self.told.add(weights_WM, utility_W)

    def best(self) -> Tensor:
        return self.told.best()


@dataclass
class Noisy:
    """A surface as a search meets it: noise on every score, and a memory, so that a direction is paid for once."""

    surface: Surface
    noise: float
    rng: np.random.Generator
    memory: dict[tuple[float, ...], Floats] = field(default_factory=dict)  # direction -> (K,)

    def scores(self, weights_WM: Tensor, objectives: int) -> Tensor:
        """(W, K); the origin blends nothing, scores 0 and costs nothing, as in `ensemble.front`."""
        rows_WK = np.zeros((len(weights_WM), objectives))
        for row_K, weights_M in zip(rows_WK, directions(weights_WM).numpy(), strict=True):
            if weights_M.any():
                key = tuple(weights_M.round(DIGITS).tolist())
                if key not in self.memory:
                    exact_K = self.surface.scores(weights_M[None])[0]
                    self.memory[key] = exact_K + self.noise * self.rng.standard_normal(objectives)
                row_K[:] = self.memory[key]
        return torch.from_numpy(rows_WK)


@dataclass(frozen=True)
class Trial:
    """``regret_N``: after n evaluations; NaN where the first round was not over."""

    regret_N: Floats
    seconds: float


@dataclass(frozen=True)
class ForOne:
    """A search for one preference, told as a search of the front is."""

    search: WeightSearch
    preference_K: Tensor

    def ask(self) -> Tensor:
        return self.search.ask()

    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None:
        self.search.tell(weights_WM, scores_WK @ self.preference_K)

    def best(self, preference_K: Tensor) -> Tensor:
        return self.search.best()


def trial(strategy: Strategy, surface: str, objectives: int, noise: float, evaluations: int, seed: int) -> Trial:
    """The surface, the preference and the noise depend on the seed alone, so all strategies meet the same."""
    rng = np.random.default_rng([seed, objectives])
    met = Noisy(SURFACES[surface].drawn(objectives, rng), noise, np.random.default_rng([seed, 1]))
    preference_K = torch.from_numpy(rng.dirichlet(np.ones(objectives)))
    optimum, regret_N = met.surface.optimum(preference_K.numpy()), np.full(evaluations, np.nan)
    started, elsewhere = time.perf_counter(), 0.0
    search: FrontSearch = (
        strategy.start_front(objectives)
        if isinstance(strategy, FrontStrategy)
        else ForOne(strategy.start(objectives), preference_K)
    )
    while len(weights_WM := search.ask()):
        paused = time.perf_counter()
        scores_WK = met.scores(weights_WM, objectives)
        elsewhere += time.perf_counter() - paused
        if len(met.memory) > evaluations:
            break
        search.tell(weights_WM, scores_WK)
        best_1M = directions(search.best(preference_K)[None]).numpy()
        regret_N[len(met.memory) - 1 :] = optimum - met.surface.scores(best_1M)[0] @ preference_K.numpy()
    return Trial(regret_N.clip(min=0.0), time.perf_counter() - started - elsewhere)
