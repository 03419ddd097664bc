"""The scores of blends on the select split: decoded once, cached, recorded, and paid for from one budget of prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.damage import json_rows, reading
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost
from emorl_bench.core.masked import mean_scores, or_none, stated, weighted_mean
from emorl_bench.core.protocols import Aggregator, Bench, Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, part_of
from emorl_bench.progress import ProgressBar
from emorl_bench.search.successive_halving import Part, directions, key_of

FILE = "search.jsonl"


@dataclass
class Evaluations:
    """Mean scores of blends on the select split, by the direction of their weights; written to ``search.jsonl``.

    ``halved``: every second prompt is kept back, so that leaders can be graded on prompts that are fresh to them.
    ``pot``: prompts that all searches together may spend; ``None`` is no limit. A candidate that was asked about before
    costs nothing. A run that resumes asks the same questions in the same order: a recorded answer is used again, and
    counts as it did then.
    """

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    halved: bool = False
    share: float | None = None  # of the budget's prompts, for ``pot``; ``None``: all that is left
    memory: dict[tuple[Part, tuple[float, ...]], Tensor] = field(default_factory=dict)  # direction -> (K,) float64
    asked: set[tuple[Part, tuple[float, ...]]] = field(default_factory=set)  # what this session has asked about
    _logged: int = 0  # how many were asked about when the tracker was last given a row
    _bar: ProgressBar | None = None

    def __post_init__(self) -> None:
        """Divide the prompts, find the budget, and read what an earlier session has recorded.

        Raises:
            UserError: there are too few select prompts to divide, or the record is damaged.
        """
        select = self.bench.select
        if self.halved and len(select) < 2:
            raise UserError("method.search.confirm: needs 2 select prompts or more; raise budget.select_prompts")
        self.prompts: dict[Part, Sequence[Example]] = (
            {"explored": select[1::2], "fresh": select[::2]} if self.halved else {"all": select}
        )
        self.pot = self._pot()
        rows = self.bench.runtime.ranks.once(self._recorded)
        with reading(self.bench.dir / FILE):
            for row in rows:
                self._remember(row)
            if rows:
                self.bench.ledger.charge("search", Cost(**rows[-1]["cost"]))

    def _remember(self, row: dict[str, Any]) -> None:
        scores = [math.nan if score is None else float(score) for score in row["scores"]]
        if (len(scores), len(row["weights"])) != (len(self.bench.objectives), len(self.experts)):
            raise ValueError(f"{len(scores)} scores and {len(row['weights'])} weights in a row")
        self.memory[row.get("part", "all"), tuple(row["weights"])] = torch.tensor(scores, dtype=torch.float64)

    def _recorded(self) -> list[dict[str, Any]]:
        """What an earlier session has evaluated; a row that a kill has cut short is dropped."""
        path, rows = self.bench.dir / FILE, read_rows(self.bench.dir / FILE)
        if path.exists():
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def _pot(self) -> int | None:
        """The share of the budget that the search may spend, but no more than training has left."""
        if (whole := self.bench.budget.prompts) is None:
            return None
        share = whole if self.share is None else part_of(whole, self.share)
        return max(0, min(share, whole - self.bench.ledger.spent))

    @property
    def left(self) -> int | None:
        """Prompts of ``pot`` that are not spent; ``None`` is no limit."""
        return None if self.pot is None else self.pot - self.paid

    @property
    def paid(self) -> int:
        """Prompts that the questions of this session cost, with those whose answer an earlier session knew."""
        return sum(len(self.prompts[part]) for part, _ in self.asked)

    def affordable(self, weights_WM: Tensor, parts: Sequence[Part], most: int | None) -> int:
        """Number of candidates, from the first on, that ``most`` prompts pay for; known ones are free.

        Args:
            weights_WM: the candidates.
            parts: the parts of the select split that they are to be graded on.
            most: prompts that may be spent; ``None`` is no limit.
        """
        spent, fresh = 0, set[tuple[Part, tuple[float, ...]]]()
        for count, weights_M in enumerate(directions(weights_WM)):
            new = {(part, key_of(weights_M)) for part in parts} - self.asked - fresh if weights_M.any() else set()
            spent += sum(len(self.prompts[part]) for part, _ in new)
            if most is not None and spent > most:
                return count
            fresh |= new
        return len(weights_WM)

    def known(self, part: Part) -> tuple[Tensor, Tensor]:
        """All that any search has asked about: weights (W, M) and scores (W, K), in the order they were paid for."""
        keys = [key for at, key in self.memory if at == part and (at, key) in self.asked]
        scores = [self.memory[part, key] for key in keys]
        if not keys:
            return torch.empty(0, len(self.experts)).double(), torch.empty(0, len(self.bench.objectives)).double()
        return torch.tensor(keys, dtype=torch.float64), torch.stack(scores)

    def scores(self, weights_WM: Tensor, preference_K: Tensor, part: Part = "all") -> Tensor:
        """(W, K) float64 mean scores; NaN where an objective applies to no prompt of this part of the select split.

        The origin blends nothing: it scores 0 and costs nothing. ``preference_K`` is the one that asks, for the record.
        """
        keys = [key_of(weights_M) for weights_M in directions(weights_WM)]
        self.asked |= {(part, key) for key in keys if any(key)}
        with self.bench.ledger.phase("search") as cost:
            missing = [key for key in dict.fromkeys(keys) if (part, key) not in self.memory and any(key)]
            cost.evaluations_asked += len(keys)
            cost.evaluations += len(missing)
            if missing:
                scores_WK = self._decode(torch.tensor(missing, dtype=torch.float64), self.prompts[part])
                self.memory |= {(part, key): scores_K for key, scores_K in zip(missing, scores_WK, strict=True)}
            origin_K = torch.zeros(len(self.bench.objectives), dtype=torch.float64)
            scores_WK = torch.stack([self.memory.get((part, key), origin_K) for key in keys])
            self.bench.ledger.settle()
            self._record(part, keys, scores_WK, preference_K, cost)
            self._log(part, cost)
        if self._bar is not None:
            best = utilities(scores_WK, preference_K).max().item()
            self._bar.to(self.paid, f"utility {best:.3f}")
        return scores_WK

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress of the searches inside the block: prompts paid, of those that the pot still holds."""
        left, ledger, quiet = self.left, self.bench.ledger, not self.bench.runtime.ranks.first
        total = None if left is None else self.paid + left
        try:
            with ProgressBar("search", total, "prompts", quiet=quiet, tokens=lambda: ledger.generated_tokens) as bar:
                self._bar = bar
                yield
        finally:
            self._bar = None

    def _decode(self, weights_WM: Tensor, prompts: Sequence[Example]) -> Tensor:
        greedy = replace(self.bench.sampling, temperature=0.0, samples_per_prompt=1)
        blend = self.aggregator.blend(self.experts, weights_WM)
        rollout = blend.generate(prompts, greedy, stream(self.bench.seed, "search"))
        scores_WPK = self.bench.score(rollout).double().reshape(len(weights_WM), -1, len(self.bench.objectives))
        return mean_scores(scores_WPK, dim=1)

    def _record(
        self, part: Part, keys: Sequence[tuple[float, ...]], scores_WK: Tensor, preference_K: Tensor, cost: Cost
    ) -> None:
        if self.bench.runtime.frozen or not self.bench.runtime.ranks.first:
            return
        with (self.bench.dir / FILE).open("a") as file:
            utility_W = utilities(scores_WK, preference_K).tolist()
            for key, scores, utility in zip(keys, scores_WK.tolist(), utility_W, strict=True):
                row = {"preference": preference_K.tolist(), "weights": key, "part": part, "utility": utility}
                paid = {"prompts": len(self.prompts[part]) if any(key) else 0, "of": len(keys), "cost": asdict(cost)}
                file.write(json.dumps(row | {"scores": or_none(scores)} | paid) + "\n")

    def _log(self, part: Part, cost: Cost) -> None:
        """The best blend for the uniform preference among all that were asked about so far, whoever asked."""
        scores_NK = self.known(part)[1]
        if self.bench.runtime.lower or part == "fresh" or not len(scores_NK) or len(self.asked) == self._logged:
            return
        self._logged = len(self.asked)
        utility_N = utilities(scores_NK, torch.full_like(scores_NK[0], 1 / scores_NK.shape[1]))
        best = int(utility_N.argmax())
        row = {f"search/{name}": s for name, s in zip(self.bench.objectives, scores_NK[best].tolist(), strict=True)}
        row |= {"search/mean_reward": mean_scores(scores_NK[best]).item(), "search/utility": utility_N[best].item()}
        spent = {"data_points": self.paid, "tokens": cost.generated_tokens, "seconds": cost.wall_seconds}
        axes = {f"spent/search/{axis}": float(value) for axis, value in spent.items()}
        self.bench.tracker.log(stated(row) | {"search/evaluations": len(self.asked)} | axes, step=len(self.asked))


def paid_by_preference(path: Path) -> dict[tuple[float, ...], int]:
    """Prompts that each preference's search has paid for. The first preference that asks about a blend pays for it."""
    paid: dict[tuple[float, ...], int] = {}
    known: set[tuple[str, tuple[float, ...]]] = set()
    for row in read_rows(path):
        key, preference = (row.get("part", "all"), tuple(row["weights"])), tuple(row["preference"])
        paid[preference] = paid.get(preference, 0) + (0 if key in known else row.get("prompts", 0))
        known.add(key)
    return paid


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of complete questions.

    An incomplete last question is left out, because its cost is that of all its rows.
    """
    rows = json_rows(path)
    whole: list[dict[str, Any]] = []
    while len(whole) < len(rows):
        size = rows[len(whole)].get("of", 1)
        if len(whole) + size > len(rows):
            break
        whole += rows[len(whole) : len(whole) + size]
    return whole


def utilities(scores_WK: Tensor, preference_K: Tensor) -> Tensor:
    """(W,) weighted mean scores of a preference; 0, as for the origin, where nothing that it asks for applies."""
    return weighted_mean(scores_WK, preference_K).nan_to_num(0.0)
