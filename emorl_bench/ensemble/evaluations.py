"""What blends score on the select split: decoded once, remembered, recorded, and paid from one pot of prompts."""

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

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost
from emorl_bench.core.masked import mean_scores, or_none, weighted_mean
from emorl_bench.core.protocols import Aggregator, Bench, Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, part_of
from emorl_bench.progress import ProgressBar
from emorl_bench.search.successive_halving import Part, directions, key_of

FILE = "search.jsonl"


@dataclass
class Evaluations:
    """Mean scores of blends on the select split, or on a half of it, by direction of their weights; written to
    ``search.jsonl``. ``halved``: every second prompt is kept back, as fresh ones.

    ``pot``: prompts that all searches may spend together, ``None`` is no limit. What was asked about before costs
    nothing. A run that was killed walks the same way again: what is remembered from before counts as it did then.
    """

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    halved: bool = False
    share: float | None = None  # of the budget's prompts, for the pot; ``None``: all that is left
    memory: dict[tuple[Part, tuple[float, ...]], Tensor] = field(default_factory=dict)  # of a direction: (K,) float64
    asked: set[tuple[Part, tuple[float, ...]]] = field(default_factory=set)  # in this session
    _bar: ProgressBar | None = None

    def __post_init__(self) -> None:
        select = self.bench.select
        if self.halved and len(select) < 2:
            raise UserError("method.search.confirm: needs 2 select prompts or more; raise budget.select_prompts")
        self.prompts: dict[Part, Sequence[Example]] = (
            {"explored": select[1::2], "fresh": select[::2]} if self.halved else {"all": select}
        )
        self.pot = self._pot()
        rows = self.bench.runtime.ranks.once(self._recorded)
        for row in rows:
            scores = [math.nan if score is None else score for score in row["scores"]]
            self.memory[row.get("part", "all"), tuple(row["weights"])] = torch.tensor(scores, dtype=torch.float64)
        if rows:
            self.bench.ledger.charge("search", Cost(**rows[-1]["cost"]))

    def _recorded(self) -> list[dict[str, Any]]:
        """What an earlier session has evaluated; what a kill has torn is dropped."""
        path, rows = self.bench.dir / FILE, read_rows(self.bench.dir / FILE)
        if path.exists():
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def _pot(self) -> int | None:
        """The share of the budget that the search may spend, and no more than training has left."""
        if (whole := self.bench.budget.prompts) is None:
            return None
        share = whole if self.share is None else part_of(whole, self.share)
        return max(0, min(share, whole - self.bench.ledger.spent))

    @property
    def left(self) -> int | None:
        """Prompts of the pot that are not spent; ``None`` is no limit."""
        return None if self.pot is None else self.pot - self._paid

    def affordable(self, weights_WM: Tensor, parts: Sequence[Part], most: int | None) -> int:
        """How many of the candidates, from the first on, ``most`` prompts pay for; those asked before are free."""
        spent, fresh = 0, set[tuple[Part, tuple[float, ...]]]()
        for count, weights_M in enumerate(directions(weights_WM)):
            new = {(part, key_of(weights_M)) for part in parts} - self.asked - fresh if weights_M.any() else set()
            spent += sum(len(self.prompts[part]) for part, _ in new)
            if most is not None and spent > most:
                return count
            fresh |= new
        return len(weights_WM)

    def known(self, part: Part) -> tuple[Tensor, Tensor]:
        """All that was asked about, whoever asked: weights (W, M) and scores (W, K), in the order paid for."""
        keys = [key for at, key in self.memory if at == part and (at, key) in self.asked]
        scores = [self.memory[part, key] for key in keys]
        if not keys:
            return torch.empty(0, len(self.experts)).double(), torch.empty(0, len(self.bench.objectives)).double()
        return torch.tensor(keys, dtype=torch.float64), torch.stack(scores)

    def scores(self, weights_WM: Tensor, preference_K: Tensor, part: Part = "all") -> Tensor:
        """(W, K) float64, NaN where an objective applies to no select prompt of the part.

        The origin blends nothing: it scores 0 and costs nothing.
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
        if self._bar is not None:
            best = utilities(scores_WK, preference_K).max().item()
            self._bar.to(self._paid, f"utility {best:.3f}")
        return scores_WK

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress of the searches inside the block: prompts paid, of those that the pot still holds."""
        left, ledger, quiet = self.left, self.bench.ledger, not self.bench.runtime.ranks.first
        total = None if left is None else self._paid + left
        try:
            with ProgressBar("search", total, "prompts", quiet=quiet, tokens=lambda: ledger.generated_tokens) as bar:
                self._bar = bar
                yield
        finally:
            self._bar = None

    @property
    def _paid(self) -> int:
        return sum(len(self.prompts[part]) for part, _ in self.asked)

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


def paid_by_preference(path: Path) -> dict[tuple[float, ...], int]:
    """Prompts that each preference's search has paid for, in the order asked: a blend is paid for by the first."""
    paid: dict[tuple[float, ...], int] = {}
    known: set[tuple[str, tuple[float, ...]]] = set()
    for row in read_rows(path):
        key, preference = (row.get("part", "all"), tuple(row["weights"])), tuple(row["preference"])
        paid[preference] = paid.get(preference, 0) + (0 if key in known else row.get("prompts", 0))
        known.add(key)
    return paid


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of whole questions; a last one that a kill has torn is none, for its cost is that of all its rows."""
    text = path.read_text().rpartition("\n")[0] if path.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    whole: list[dict[str, Any]] = []
    while len(whole) < len(rows):
        size = rows[len(whole)].get("of", 1)
        if len(whole) + size > len(rows):
            break
        whole += rows[len(whole) : len(whole) + size]
    return whole


def utilities(scores_WK: Tensor, preference_K: Tensor) -> Tensor:
    """(W,) what a preference makes of mean scores; as little as the origin's 0 where nothing it asks for applies."""
    return weighted_mean(scores_WK, preference_K).nan_to_num(0.0)
