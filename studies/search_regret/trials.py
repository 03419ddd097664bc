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
    """What a search meets: the scores that it is told, and the true scores of its answer."""

    def seen(self, weights_WM: Floats, part: Part) -> Floats:
        """(W, K) on a part of the prompts; the same question gets the same answer."""

    def true(self, weights_WM: Floats) -> Floats:
        """(W, K): the true scores."""


@dataclass
class Noisy:
    """A surface with normal noise on every score. On half of the prompts the variance is twice that on all.

    Attributes:
        surface: the surface.
        noise: the standard deviation on all prompts.
        seed: the seed of the noise.
        memory: the scores (K,) of what has been asked about, because the same question gets the same answer.
    """

    surface: Surface
    noise: float
    seed: int
    memory: dict[tuple[Part, tuple[float, ...]], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Give each part of the prompts its own random stream."""
        parts: tuple[Part, ...] = ("all", *HALVES)
        self.rngs = {part: np.random.default_rng([self.seed, 1 + i]) for i, part in enumerate(parts)}

    def seen(self, weights_WM: Floats, part: Part) -> Floats:
        """See `Met.seen`."""
        return np.stack([self._remembered(weights_M, part) for weights_M in weights_WM])

    def _remembered(self, weights_M: Floats, part: Part) -> Floats:
        key = part, key_of(torch.from_numpy(weights_M))
        if key not in self.memory:
            exact_K = self.true(weights_M[None])[0]
            noise = self.noise if part == "all" else math.sqrt(2) * self.noise
            self.memory[key] = exact_K + noise * self.rngs[part].standard_normal(len(exact_K))
        return self.memory[key]

    def true(self, weights_WM: Floats) -> Floats:
        """See `Met.true`."""
        return self.surface.scores(weights_WM)


@dataclass(frozen=True)
class Trial:
    """One search.

    Attributes:
        regret_N: the regret after n evaluations; NaN before the first round has ended.
        seconds: the search's own time.
    """

    regret_N: Floats
    seconds: float


@cache
def problem(surface: str, objectives: int, seed: int) -> tuple[Surface, Floats, float]:
    """A surface, a preference and the optimum. They depend on the seed alone, so all strategies have the same."""
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
    """One search on a surface; the noise depends on the seed alone."""
    drawn, preference_K, optimum = problem(surface, objectives, seed)
    return trial(strategy, Noisy(drawn, noise, seed), preference_K, optimum, evaluations, judged)


def trial(
    strategy: Strategy, met: Met, preference_K: Floats, optimum: float, evaluations: int, judged: Judged = "both"
) -> Trial:
    """One search for one preference.

    With ``confirm`` the regret after n evaluations is that of the answer if the exploration ended there, with the
    leaders graded again and paid for.

    Args:
        strategy: the search.
        met: what it meets.
        preference_K: the weights of the utility.
        optimum: the largest true utility.
        evaluations: the number of blends that it may evaluate.
        judged: which prompts decide between leaders.
    """
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
    """A search under way, what it has paid for and what it has been told.

    Attributes:
        search: the search.
        met: what it meets.
        preference_K: the weights of the utility.
        confirm: the number of leaders that are graded again; None: no leader is.
        paid: the directions of the blends that were evaluated.
        told: weights and scores of each round.
        elsewhere: seconds that are not the search's.
    """

    search: FrontSearch
    met: Met
    preference_K: Tensor
    confirm: int | None
    paid: set[tuple[float, ...]] = field(default_factory=set)
    told: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    elsewhere: float = 0.0

    @classmethod
    def started(cls, strategy: Strategy, met: Met, preference_K: Tensor) -> Running:
        """Begin a search."""
        experts = len(preference_K)
        search: FrontSearch = (
            strategy.start_front(experts)
            if isinstance(strategy, FrontStrategy)
            else ForOne(strategy.start(experts), preference_K)
        )
        return cls(search, met, preference_K, strategy.confirm if isinstance(strategy, SuccessiveHalving) else None)

    @property
    def spent(self) -> float:
        """The evaluations so far, counted on all prompts: half of the prompts are half an evaluation."""
        return len(self.paid) * (1.0 if self.confirm is None else 0.5)

    def seen(self, weights_WM: Tensor) -> Tensor:
        """The scores (W, K) of some weight vectors.

        The origin blends nothing, scores 0 and costs nothing, as in `ensemble.front`.
        """
        weights_WM = directions(weights_WM)
        blends_W = weights_WM.any(1)
        self.paid |= {key_of(weights_M) for weights_M in weights_WM[blends_W]}
        scores_WK = torch.zeros(len(weights_WM), len(self.preference_K), dtype=torch.float64)
        part: Part = "all" if self.confirm is None else "explored"
        scores_WK[blends_W] = torch.from_numpy(self.met.seen(weights_WM[blends_W].numpy(), part))
        return scores_WK

    def confirmed(self, best_M: Tensor, judged: Judged) -> tuple[Tensor, float]:
        """The answer with leaders graded again, as `ensemble.front` gives it; nothing is told to the search.

        Returns:
            the answer (M,), and what all evaluations would have cost.
        """
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
        """Exclude the time inside this context from the search's own."""
        paused = time.perf_counter()
        yield
        self.elsewhere += time.perf_counter() - paused
