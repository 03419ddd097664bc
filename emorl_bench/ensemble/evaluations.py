"""The scores of blends on the select split: decoded once, cached, recorded, and paid for from one budget of prompts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from emorl_bench.core.damage import reading
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost
from emorl_bench.core.masked import mean_scores, or_none, stated, weighted_mean
from emorl_bench.core.protocols import Aggregator, Bench, Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, part_of
from emorl_bench.ensemble.search_record import FILE, Row, append, read_questions, take_up
from emorl_bench.progress import ProgressBar
from emorl_bench.search.successive_halving import Part, directions, key_of

TIE = 9  # digits; utilities that agree to so many are equal, and the blend that was asked about first is taken


@dataclass
class Evaluations:
    """Mean scores of blends on the select split, by the direction of their weights; written to ``search.jsonl``.

    ``halved``: every second prompt is kept back, so that leaders can be graded on prompts that are fresh to them.
    ``pot``: prompts that all searches together may spend; ``None`` is no limit. A candidate that was asked about before
    costs nothing. A run that resumes asks the same questions in the same order: a recorded answer is used again, is
    neither charged nor recorded a second time, and counts as it did then.
    """

    bench: Bench
    experts: Sequence[Policy]
    aggregator: Aggregator
    halved: bool = False
    share: float | None = None  # of the budget's prompts, for ``pot``; ``None``: all that is left
    memory: dict[tuple[Part, tuple[float, ...]], Tensor] = field(default_factory=dict)  # direction -> (K,) float64
    asked: set[tuple[Part, tuple[float, ...]]] = field(default_factory=set)  # what this session has asked about
    _repeated: deque[list[Row]] = field(default_factory=deque)  # questions of earlier sessions, not asked yet in this
    _passed: list[tuple[Part, list[tuple[float, ...]]]] = field(default_factory=list)  # those that were; what was new
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
        read, path = read_questions if self.bench.runtime.frozen else take_up, self.bench.dir / FILE
        questions = self.bench.runtime.ranks.once(lambda: read(path))
        # Here, and not at the first question, which is asked while grading: so phases keep their order after a resume.
        self.bench.ledger.phases.setdefault("search", Cost())
        with reading(path):
            for row in (row for rows in questions for row in rows):
                self._remember(row)
            if questions:
                last = questions[-1][-1]
                self.bench.ledger.charge("search", Cost(**last["cost"]))
                self.bench.ledger.take_up(last.get("meters", {}))
        self._repeated.extend(questions)

    def _remember(self, row: Row) -> None:
        scores = [math.nan if score is None else float(score) for score in row["scores"]]
        if (len(scores), len(row["weights"])) != (len(self.bench.objectives), len(self.experts)):
            raise ValueError(f"{len(scores)} scores and {len(row['weights'])} weights in a row")
        self.memory[row.get("part", "all"), tuple(row["weights"])] = torch.tensor(scores, dtype=torch.float64)

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
        fresh = [key for key in dict.fromkeys(keys) if any(key) and (part, key) not in self.asked]
        self.asked |= {(part, key) for key in keys if any(key)}
        if (cost := self._repeats(keys, preference_K, part)) is not None:
            self._passed.append((part, fresh))
            scores_WK = self._remembered(part, keys)
            self._log(part, cost)
            self._show(scores_WK, preference_K)
            return scores_WK
        self._catch_up()
        with self.bench.ledger.phase("search") as cost:
            missing = [key for key in dict.fromkeys(keys) if (part, key) not in self.memory and any(key)]
            cost.evaluations_asked += len(keys)
            cost.evaluations += len(missing)
            if missing:
                scores_WK = self._decode(torch.tensor(missing, dtype=torch.float64), self.prompts[part])
                self.memory |= {(part, key): scores_K for key, scores_K in zip(missing, scores_WK, strict=True)}
            scores_WK = self._remembered(part, keys)
            self.bench.ledger.settle()
            self._record(part, keys, scores_WK, preference_K, cost)
            self._log(part, cost)
        self._show(scores_WK, preference_K)
        return scores_WK

    def _repeats(self, keys: Sequence[tuple[float, ...]], preference_K: Tensor, part: Part) -> Cost | None:
        """The cost of all searches after this question in an earlier session; ``None`` where it is another question."""
        if not self._repeated:
            return None
        rows = self._repeated.popleft()
        preference, known = preference_K.tolist(), [tuple(row["weights"]) for row in rows]
        if known == list(keys) and all(
            (row["preference"], row.get("part", "all")) == (preference, part) for row in rows
        ):
            return Cost(**rows[-1]["cost"])
        self._repeated.clear()  # this session goes another way; what the earlier one knows is still known
        return None

    def _catch_up(self) -> None:
        """Decode and score again, free of charge, what earlier sessions did: before the first question that they lack.

        Decoder and scorers keep what they know between questions, and so decide what the next question costs and which
        rows share a batch with which. Without this the last bit of an answer's logits could differ.
        """
        with self.bench.ledger.free():
            for part, fresh in self._passed:
                if fresh:
                    self._decode(torch.tensor(fresh, dtype=torch.float64), self.prompts[part])
        self._passed.clear()

    def _remembered(self, part: Part, keys: Sequence[tuple[float, ...]]) -> Tensor:
        origin_K = torch.zeros(len(self.bench.objectives), dtype=torch.float64)
        return torch.stack([self.memory.get((part, key), origin_K) for key in keys])

    def _show(self, scores_WK: Tensor, preference_K: Tensor) -> None:
        if self._bar is not None:
            best = utilities(scores_WK, preference_K).max().item()
            self._bar.to(self.paid, f"utility {best:.3f}")

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
        rows = []
        for key, scores, utility in zip(
            keys, scores_WK.tolist(), utilities(scores_WK, preference_K).tolist(), strict=True
        ):
            row = {"preference": preference_K.tolist(), "weights": key, "part": part, "utility": utility}
            paid = {"prompts": len(self.prompts[part]) if any(key) else 0, "of": len(keys), "cost": asdict(cost)}
            rows.append(row | {"scores": or_none(scores)} | paid)
        rows[-1]["meters"] = self.bench.ledger.meters_of(["search"])
        append(self.bench.dir / FILE, rows)

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


def utilities(scores_WK: Tensor, preference_K: Tensor) -> Tensor:
    """(W,) weighted mean scores of a preference, rounded to `TIE` digits.

    0, as for the origin, where nothing that it asks for applies.
    """
    return weighted_mean(scores_WK, preference_K).nan_to_num(0.0).round(decimals=TIE)
