"""From experts to an answer for every preference: candidates are decoded on the select split, scored, and remembered.

What a blend scores does not depend on who asks, so all preferences share one memory: a candidate is paid for once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.applicable import mean_scores, or_none, weighted_mean
from emorl_bench.core.ledger import Cost
from emorl_bench.core.protocols import (
    Aggregator,
    Bench,
    FrontSearch,
    FrontStrategy,
    Generator,
    Policy,
    SearchStrategy,
    Solution,
)
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy

FILE = "search.jsonl"
DIGITS = 9  # weights that agree to so many digits are the same direction


@dataclass
class SearchedFront:
    """A `Solution` that searches the blend of its experts on select prompts, greedily decoded: for each preference, or
    once for all of them where the strategy searches the whole front.
    """

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    strategy: SearchStrategy | FrontStrategy
    _found: dict[tuple[float, ...], Tensor] = field(default_factory=dict)  # preference -> weights
    _blends: dict[tuple[float, ...], Generator] = field(default_factory=dict)  # weights -> the one generator of them
    _front: FrontSearch | None = None  # once it is over

    def __post_init__(self) -> None:
        self.evaluations = Evaluations(self.bench, self.experts, self.aggregator)

    def policy_for(self, preference_K: Tensor) -> Generator:
        key = tuple(preference_K.tolist())
        if key not in self._found:
            self._found[key] = self._search(preference_K.double())
        weights_M = self._found[key]
        return self._blends.setdefault(tuple(weights_M.tolist()), self.aggregator.blend(self.experts, weights_M[None]))

    def _search(self, preference_K: Tensor) -> Tensor:
        if isinstance(self.strategy, FrontStrategy):
            self._front = self._front or self._explored(self.strategy)
            return directions(self._front.best(preference_K)[None])[0]
        search = self.strategy.start(len(self.experts))
        while len(weights_WM := search.ask()):
            search.tell(weights_WM, utilities(self.evaluations.scores(weights_WM, preference_K), preference_K))
        return directions(search.best()[None])[0]

    def _explored(self, strategy: FrontStrategy) -> FrontSearch:
        """Recorded under the uniform preference, which is the one that a report draws."""
        objectives = len(self.bench.objectives)
        uniform_K = torch.full((objectives,), 1 / objectives, dtype=torch.float64)
        search = strategy.start_front(len(self.experts))
        while len(weights_WM := search.ask()):
            search.tell(weights_WM, self.evaluations.scores(weights_WM, uniform_K))
        return search


@dataclass
class Evaluations:
    """Mean scores of blends on the select split, by direction of their weights; written to ``search.jsonl``."""

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    memory: dict[tuple[float, ...], Tensor] = field(default_factory=dict)  # direction -> (K,) float64

    def __post_init__(self) -> None:
        rows = self.bench.ranks.once(self._recorded)
        for row in rows:
            scores = [math.nan if score is None else score for score in row["scores"]]
            self.memory[tuple(row["weights"])] = torch.tensor(scores, dtype=torch.float64)
        if rows:
            self.bench.ledger.charge("search", Cost(**rows[-1]["cost"]))

    def _recorded(self) -> list[dict[str, Any]]:
        """What an earlier session has evaluated; a last line that a kill has torn is dropped."""
        path = self.bench.dir / FILE
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        if whole:
            path.write_text(whole + "\n")
        return [json.loads(line) for line in whole.splitlines()]

    def scores(self, weights_WM: Tensor, preference_K: Tensor) -> Tensor:
        """(W, K) float64, NaN where an objective applies to no select prompt.

        The origin blends nothing: it scores 0 and costs nothing.
        """
        keys = [tuple(round(w, DIGITS) for w in row) for row in directions(weights_WM).tolist()]
        with self.bench.ledger.phase("search") as cost:
            missing = [key for key in dict.fromkeys(keys) if key not in self.memory and any(key)]
            cost.evaluations_asked += len(keys)
            cost.evaluations += len(missing)
            if missing:
                scores_WK = self._decode(torch.tensor(missing, dtype=torch.float64))
                self.memory |= dict(zip(missing, scores_WK, strict=True))
            origin_K = torch.zeros(len(self.bench.objectives), dtype=torch.float64)
            scores_WK = torch.stack([self.memory.get(key, origin_K) for key in keys])
            self.bench.ledger.settle()
            self._record(keys, scores_WK, preference_K, cost)
        return scores_WK

    def _decode(self, weights_WM: Tensor) -> Tensor:
        greedy = replace(self.bench.sampling, temperature=0.0, samples_per_prompt=1)
        blend = self.aggregator.blend(self.experts, weights_WM)
        rollout = blend.generate(self.bench.select, greedy, stream(self.bench.seed, "search"))
        scores_WPK = self.bench.score(rollout).double().reshape(len(weights_WM), -1, len(self.bench.objectives))
        return mean_scores(scores_WPK, dim=1)

    def _record(self, keys: Sequence[tuple[float, ...]], scores_WK: Tensor, preference_K: Tensor, cost: Cost) -> None:
        if self.bench.frozen or not self.bench.ranks.first:
            return
        with (self.bench.dir / FILE).open("a") as file:
            utility_W = utilities(scores_WK, preference_K).tolist()
            for key, scores, utility in zip(keys, scores_WK.tolist(), utility_W, strict=True):
                row = {"preference": preference_K.tolist(), "weights": key, "utility": utility}
                file.write(json.dumps(row | {"scores": or_none(scores), "cost": asdict(cost)}) + "\n")


def searched_or_uniform(
    bench: Bench,
    experts: Sequence[Policy],
    aggregator: Aggregator,
    strategy: SearchStrategy | FrontStrategy | None,
) -> Solution:
    """The blend of each preference, found by search; without a search the uniform one for all."""
    if strategy is not None:
        return SearchedFront(bench, experts, aggregator, strategy)
    uniform_WM = torch.full((1, len(experts)), 1 / len(experts), dtype=torch.float64)
    return OnePolicy(aggregator.blend(experts, uniform_WM))


def utilities(scores_WK: Tensor, preference_K: Tensor) -> Tensor:
    """(W,) what a preference makes of mean scores; as little as the origin's 0 where nothing it asks for applies."""
    return weighted_mean(scores_WK, preference_K).nan_to_num(0.0)


def directions(weights_WM: Tensor) -> Tensor:
    """Each weight vector brought to sum 1 (a blend's temperature is not the search's to choose); the origin stays."""
    total_W1 = weights_WM.sum(1, keepdim=True)
    return weights_WM / torch.where(total_W1 == 0, 1.0, total_W1)
