"""From experts to an answer for every preference: candidates are decoded on the select split, scored and cached.

The scores of a blend do not depend on the preference. So all preferences share one cache, and a candidate is paid for
once. They also share one budget of prompts, and take turns: each search asks one question before any search asks its
next one, so that all get a share. If the budget does not pay for the whole next question of a search, the search asks
the part that can be paid, and ends. Its preference is then answered with the best of all that any search has asked
about. Some strategies have their leaders graded again, on select prompts that are fresh to them
(`search.successive_halving`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.protocols import (
    Aggregator,
    Bench,
    FrontSearch,
    FrontStrategy,
    Policy,
    Sampler,
    SearchStrategy,
    Solution,
    WeightSearch,
)
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.ensemble.evaluations import Evaluations, utilities
from emorl_bench.search.successive_halving import HALVES, Part, SuccessiveHalving, directions, leaders, pooled


@dataclass
class SearchedFront(Solution):
    """A solution that searches the blend of its experts for each preference, on greedy answers to select prompts.

    A `FrontStrategy` searches once, for all preferences. ``share``: the share of the budget's prompts that all searches
    together may spend; ``None`` is all that training has left.
    """

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    strategy: SearchStrategy | FrontStrategy
    share: float | None = None
    _found: dict[tuple[float, ...], Tensor] = field(default_factory=dict)  # preference -> weights
    _blends: dict[tuple[float, ...], Sampler] = field(default_factory=dict)  # weights -> the one sampler of them
    _front: Exploration | None = None  # the search for all preferences, once it is over

    def __post_init__(self) -> None:
        """Nothing is searched yet."""
        self.confirm = self.strategy.confirm if isinstance(self.strategy, SuccessiveHalving) else None
        halved = self.confirm is not None
        self.part: Part = "explored" if halved else "all"
        self.evaluations = Evaluations(self.bench, self.experts, self.aggregator, halved=halved, share=self.share)

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """The blend for a preference (K,). The first call searches for all preferences that the method is asked for."""
        key = tuple(preference_K.tolist())
        if key not in self._found:
            graded = self.bench.preferences
            if self.bench.runtime.frozen and key not in graded:
                self.evaluations.pot = None  # answers of a finished run to a new preference are in no comparison
            self._search(graded if key in graded else [key])
        weights_M = self._found[key]
        return self._blends.setdefault(tuple(weights_M.tolist()), self.aggregator.blend(self.experts, weights_M[None]))

    def _search(self, preferences: Sequence[tuple[float, ...]]) -> None:
        wanted = [torch.tensor(preference, dtype=torch.float64) for preference in preferences]
        with self.evaluations.shown():
            explored = self._explore(wanted)
            for done, (key, preference_K, own) in enumerate(zip(preferences, wanted, explored, strict=True)):
                self._found[key] = self._answer(own, preference_K, len(preferences) - done)

    def _explore(self, preferences: Sequence[Tensor]) -> list[Exploration]:
        """One search for each preference, in turns; or one search for all, recorded under the uniform preference."""
        if isinstance(self.strategy, FrontStrategy):
            if self._front is None:
                uniform_K = torch.full_like(preferences[0], 1 / len(preferences[0]))
                self._front = Exploration(self.strategy.start_front(len(self.experts)), uniform_K, front=True)
                self._in_turn([self._front], len(preferences))
            return [self._front] * len(preferences)
        started = [(self.strategy.start(len(self.experts)), preference_K) for preference_K in preferences]
        searches = [Exploration(ForOne(search, preference_K), preference_K) for search, preference_K in started]
        self._in_turn(searches, len(preferences))
        return searches

    def _in_turn(self, searches: Sequence[Exploration], preferences: int) -> None:
        keep = self._kept_back(preferences)
        while going := [search for search in searches if not search.over]:
            for search in going:
                left = self.evaluations.left
                search.turn(self.evaluations, self.part, None if left is None else left - keep)

    def _kept_back(self, preferences: int) -> int:
        """Prompts for grading leaders again: enough for all preferences, but at most half of what is left."""
        left = self.evaluations.left
        if self.confirm is None or left is None:
            return 0
        return min(left // 2, preferences * self.confirm * len(self.evaluations.prompts["fresh"]))

    def _answer(self, explored: Exploration, preference_K: Tensor, still: int) -> Tensor:
        """The weights for a preference (M,).

        ``still``: number of preferences without an answer, this one included; they divide the prompts that are left.
        """
        best_M = explored.best(self.evaluations, self.part, preference_K)
        if self.confirm is None or not explored.told:
            return directions(best_M[None])[0]
        weights, scores = zip(*explored.told, strict=True)
        utility_W = utilities(torch.cat(scores), preference_K)
        leaders_CM = leaders(best_M, torch.cat(weights), utility_W, self.confirm)
        left = self.evaluations.left
        paid = self.evaluations.affordable(leaders_CM, HALVES, None if left is None else left // still)
        if paid < min(2, len(leaders_CM)):
            return directions(best_M[None])[0]
        leaders_CM = leaders_CM[:paid]
        both = [self.evaluations.scores(leaders_CM, preference_K, half) for half in HALVES]
        prompts = [len(self.evaluations.prompts[half]) for half in HALVES]
        scores_CK = pooled(both[0], both[1], (prompts[0], prompts[1]))
        return leaders_CM[int(utilities(scores_CK, preference_K).argmax())]


@dataclass(frozen=True)
class ForOne:
    """A search for one preference, with the interface of a search for all (`core.protocols.FrontSearch`)."""

    search: WeightSearch
    preference_K: Tensor

    def ask(self) -> Tensor:
        """See `FrontSearch.ask`."""
        return self.search.ask()

    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None:
        """Report the utilities of the scores (W, K) under the one preference."""
        self.search.tell(weights_WM, utilities(scores_WK, self.preference_K))

    def best(self, preference_K: Tensor) -> Tensor:
        """The best weights for the one preference."""
        return self.search.best()


@dataclass
class Exploration:
    """A search in progress, and all that it was told.

    ``cut``: its last question, if the budget did not pay for all of it.
    """

    search: FrontSearch
    preference_K: Tensor  # the one that it is recorded under
    front: bool = False  # whether it can answer every preference once it was told anything
    told: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    over: bool = False
    cut: Tensor | None = None
    answers: bool = False  # whether the search was told a whole question, so that it can recommend something

    def turn(self, evaluations: Evaluations, part: Part, most: int | None) -> None:
        """Ask the next question; or the part of it that ``most`` prompts pay for, and then no more."""
        weights_WM = self.search.ask()
        paid = evaluations.affordable(weights_WM, [part], most)
        self.over = paid < len(weights_WM) or not len(weights_WM)
        if paid:
            asked_WM = weights_WM[:paid]
            self.told.append((asked_WM, evaluations.scores(asked_WM, self.preference_K, part)))
        if paid < len(weights_WM):
            self.cut = weights_WM
        elif paid:
            self.search.tell(*self.told[-1])
            self.answers = True

    def best(self, evaluations: Evaluations, part: Part, preference_K: Tensor) -> Tensor:
        """(M,): what the search recommends.

        A search that was cut short has the best known, or the nearest it asked for.
        """
        if self.cut is None or (self.front and self.answers):
            return self.search.best(preference_K)
        weights_WM, scores_WK = evaluations.known(part)
        if len(weights_WM):
            return weights_WM[int(utilities(scores_WK, preference_K).argmax())]
        off_WM = directions(self.cut) - preference_K if self.cut.shape[1] == len(preference_K) else self.cut
        return self.cut[int((off_WM**2).sum(1).argmin())]


def searched_or_uniform(
    bench: Bench,
    experts: Sequence[Policy],
    aggregator: Aggregator,
    strategy: SearchStrategy | FrontStrategy | None,
    share: float | None = None,
) -> Solution:
    """The solution that searches the blend for each preference; without a strategy the uniform blend for all."""
    if strategy is not None:
        return SearchedFront(bench, experts, aggregator, strategy, share)
    uniform_WM = torch.full((1, len(experts)), 1 / len(experts), dtype=torch.float64)
    return OnePolicy(aggregator.blend(experts, uniform_WM))
