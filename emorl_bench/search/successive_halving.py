"""The leaders of a search graded again on fresh prompts: the best of many is partly the luckiest.

With ``method.search.confirm=C`` a search explores on one half of the select prompts. For each preference its C best
candidates are then graded on the other half, fresh to them, and the one with the best mean over both halves answers:
successive halving (1502.07943) with one halving. The mean is not over the fresh half alone: under normal noise the
belief about a candidate rests on all that was seen of it, however it came to be chosen, so leaving the first half out
only adds noise. (An estimate of what the answer is worth is another matter: that is what the report split is for.)

One budget: a grade on half of the prompts costs half, so ``evaluations=N`` pays for 2N - C candidates and C that are
graded again. A search that serves all preferences explores once and pays C halves at most for each further preference.
Within a half all candidates meet the same prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.applicable import weighted_mean
from emorl_bench.core.errors import UserError

Part = Literal["all", "explored", "fresh"]  # of the select prompts
HALVES: tuple[Part, Part] = ("explored", "fresh")
DIGITS = 9  # weights that agree to so many digits are the same direction


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """What the settings of all strategies share. ``confirm``: how many leaders are graded again; ``None``: none."""

    confirm: int | None = None

    def __post_init__(self) -> None:
        if self.confirm is not None and self.confirm < 2:
            raise UserError(
                f"method.search.confirm={self.confirm}: give 2 or more leaders to compare, or null for none"
            )

    def candidates(self, evaluations: int, untried: int = 0) -> int:
        """How many a budget pays for, in evaluations on all prompts; ``untried``: leaders that were no candidates."""
        if self.confirm is None:
            return evaluations
        if self.confirm + untried > evaluations:
            most = evaluations - untried
            raise UserError(f"method.search.confirm={self.confirm}: evaluations={evaluations} pays for {most} at most")
        return 2 * evaluations - self.confirm - untried


def leaders(best_M: Tensor, evaluated_WM: Tensor, utility_W: Tensor, count: int) -> Tensor:
    """(C, M) directions, no two the same: what the search would answer, then the best told. The origin is no blend."""
    order_W = utility_W.argsort(descending=True, stable=True)
    found: dict[tuple[float, ...], Tensor] = {}
    for weights_M in directions(torch.cat([best_M[None], evaluated_WM[order_W]])):
        if weights_M.any():
            found.setdefault(key_of(weights_M), weights_M)
        if len(found) == count:
            break
    return torch.stack(list(found.values()))


def pooled(explored_WK: Tensor, fresh_WK: Tensor, prompts: tuple[int, int]) -> Tensor:
    """(W, K) means over the prompts of both halves; an objective that applies to nothing in one has the other's."""
    sizes_2 = torch.tensor(prompts, dtype=torch.float64)
    return weighted_mean(torch.stack([explored_WK, fresh_WK], dim=-1), sizes_2 / sizes_2.sum())


def directions(weights_WM: Tensor) -> Tensor:
    """Each weight vector brought to sum 1 (a blend's temperature is not the search's to choose); the origin stays."""
    total_W1 = weights_WM.sum(1, keepdim=True)
    return weights_WM / torch.where(total_W1 == 0, 1.0, total_W1)


def key_of(weights_M: Tensor) -> tuple[float, ...]:
    """What a direction is remembered by."""
    return tuple(round(w, DIGITS) for w in weights_M.tolist())
