"""One weight search on something whose truth is known: its regret after every evaluation, and its own time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emorl_bench.core.protocols import FrontSearch, FrontStrategy, SearchStrategy
from emorl_bench.ensemble.front import ForOne
from emorl_bench.search.successive_halving import HALVES, Part, SuccessiveHalving, directions, key_of, leaders, pooled
from studies.search_regret.surfaces import SURFACES, Surface

Floats = NDArray[np.float64]
Strategy = SearchStrategy | FrontStrategy
Judged = Literal["both", "fresh"]  # the halves that decide between leaders


class Met(Protocol):
    """What a search meets: what it is told on some of the prompts, and what its answer is worth. Both (W, K)."""

    def seen(self, weights_WM: Floats, part: Part) -> Floats: ...  # the same whenever it is asked
    def true(self, weights_WM: Floats) -> Floats: ...


@dataclass
class Noisy:
    """A surface with normal noise on every score; on half of the prompts its variance is twice that on all."""

    surface: Surface
    noise: float
    seed: int
    memory: dict[tuple[Part, tuple[float, ...]], Floats] = field(default_factory=dict)  # (K,)

    def __post_init__(self) -> None:
        parts: tuple[Part, ...] = ("all", *HALVES)
        self.rngs = {part: np.random.default_rng([self.seed, 1 + i]) for i, part in enumerate(parts)}

    def seen(self, weights_WM: Floats, part: Part) -> Floats:
        return np.stack([self._remembered(weights_M, part) for weights_M in weights_WM])

    def _remembered(self, weights_M: Floats, part: Part) -> Floats:
        key = part, key_of(torch.from_numpy(weights_M))
        if key not in self.memory:
            exact_K = self.true(weights_M[None])[0]
            noise = self.noise if part == "all" else math.sqrt(2) * self.noise
            self.memory[key] = exact_K + noise * self.rngs[part].standard_normal(len(exact_K))
        return self.memory[key]

    def true(self, weights_WM: Floats) -> Floats:
        return self.surface.scores(weights_WM)


@dataclass(frozen=True)
class Trial:
    """``regret_N``: after n evaluations; NaN where the first round was not over."""

    regret_N: Floats
    seconds: float


@cache
def problem(surface: str, objectives: int, seed: int) -> tuple[Surface, Floats, float]:
    """A surface, a preference and the optimum: of the seed alone, so all strategies meet the same."""
    rng = np.random.default_rng([seed, objectives])
    drawn = SURFACES[surface].drawn(objectives, rng)
    preference_K = rng.dirichlet(np.ones(objectives))
    return drawn, preference_K, drawn.optimum(preference_K)


def on_surface(
    strategy: Strategy,
    surface: str,
    objectives: int,
    noise: float,
    evaluations: int,
    seed: int,
    judged: Judged = "both",
) -> Trial:
    """The noise depends on the seed alone, too."""
    drawn, preference_K, optimum = problem(surface, objectives, seed)
    return trial(strategy, Noisy(drawn, noise, seed), preference_K, optimum, evaluations, judged)


def trial(
    strategy: Strategy, met: Met, preference_K: Floats, optimum: float, evaluations: int, judged: Judged = "both"
) -> Trial:
    """With ``confirm`` a regret is that of the answer if exploring ended there, its leaders graded again and paid."""
    running = Running.started(strategy, met, torch.from_numpy(preference_K))
    regret_N, started = np.full(evaluations, np.nan), time.perf_counter()
    while len(weights_WM := running.search.ask()):
        with running.clock():
            scores_WK = running.seen(weights_WM)
            if running.spent > evaluations:
                break
        running.search.tell(weights_WM, scores_WK)
        running.told.append((weights_WM, scores_WK))
        best_M = directions(running.search.best(running.preference_K)[None])[0]
        with running.clock():
            answer_M, spent = (best_M, running.spent) if running.confirm is None else running.confirmed(best_M, judged)
            if spent <= evaluations:
                true_K = met.true(answer_M.numpy()[None])[0]
                regret_N[math.ceil(spent) - 1 :] = optimum - true_K @ preference_K
    return Trial(regret_N.clip(min=0.0), time.perf_counter() - started - running.elsewhere)


@dataclass
class Running:
    """A search under way, what it has paid for and been told."""

    search: FrontSearch
    met: Met
    preference_K: Tensor
    confirm: int | None
    paid: set[tuple[float, ...]] = field(default_factory=set)  # directions
    told: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    elsewhere: float = 0.0  # seconds that are not the search's

    @classmethod
    def started(cls, strategy: Strategy, met: Met, preference_K: Tensor) -> Running:
        experts = len(preference_K)
        search: FrontSearch = (
            strategy.start_front(experts)
            if isinstance(strategy, FrontStrategy)
            else ForOne(strategy.start(experts), preference_K)
        )
        return cls(search, met, preference_K, strategy.confirm if isinstance(strategy, SuccessiveHalving) else None)

    @property
    def spent(self) -> float:
        """Evaluations on all prompts."""
        return len(self.paid) * (1.0 if self.confirm is None else 0.5)

    def seen(self, weights_WM: Tensor) -> Tensor:
        """(W, K); the origin blends nothing, scores 0 and costs nothing, as in `ensemble.front`."""
        weights_WM = directions(weights_WM)
        blends_W = weights_WM.any(1)
        self.paid |= {key_of(weights_M) for weights_M in weights_WM[blends_W]}
        scores_WK = torch.zeros(len(weights_WM), len(self.preference_K), dtype=torch.float64)
        part: Part = "all" if self.confirm is None else "explored"
        scores_WK[blends_W] = torch.from_numpy(self.met.seen(weights_WM[blends_W].numpy(), part))
        return scores_WK

    def confirmed(self, best_M: Tensor, judged: Judged) -> tuple[Tensor, float]:
        """The answer as `ensemble.front` gives it, and what all would have cost; nothing is told to the search."""
        assert self.confirm is not None
        weights_WM, scores_WK = (torch.cat(parts) for parts in zip(*self.told, strict=True))
        leaders_CM = leaders(best_M, weights_WM, scores_WK @ self.preference_K, self.confirm)
        explored_CK, fresh_CK = (torch.from_numpy(self.met.seen(leaders_CM.numpy(), half)) for half in HALVES)
        scores_CK = fresh_CK if judged == "fresh" else pooled(explored_CK, fresh_CK, (1, 1))
        untried = sum(key_of(leader_M) not in self.paid for leader_M in leaders_CM)
        spent = self.spent + (len(leaders_CM) + untried) / 2
        return leaders_CM[int((scores_CK @ self.preference_K).argmax())], spent

    @contextmanager
    def clock(self) -> Iterator[None]:
        paused = time.perf_counter()
        yield
        self.elsewhere += time.perf_counter() - paused
