"""Grade the leaders of a search again on fresh prompts, because the best of many candidates is partly the luckiest.

With ``method.search.confirm=C`` a search explores on one half of the select prompts. For each preference its C best
candidates are then graded on the other half, which is fresh to them. The one with the best mean over both halves is the
answer: successive halving (1502.07943) with one halving. The mean is over both halves because, under normal noise, the
belief about a candidate rests on all its observations, however it was chosen. Leaving the first half out only adds
noise. (An unbiased estimate of the answer's value is another matter: the report split gives that.)

There is one budget. A grade on half of the prompts costs half, so ``evaluations=N`` pays for 2N - C candidates, of
which C are graded again. A search that serves all preferences explores once, and pays at most C halves for each further
preference. Within a half, all candidates are graded on the same prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import weighted_mean

Part = Literal["all", "explored", "fresh"]  # a part of the select prompts
HALVES: tuple[Part, Part] = ("explored", "fresh")
DIGITS = 9  # weights that agree to this many digits are the same direction


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """The settings that all strategies share. ``confirm``: how many leaders are graded again; ``None``: none."""

    confirm: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``confirm`` is below 2.
        """
        if self.confirm is not None and self.confirm < 2:
            raise UserError(
                f"method.search.confirm={self.confirm}: give 2 or more leaders to compare, or null for none"
            )

    def candidates(self, evaluations: int, untried: int = 0) -> int:
        """Number of candidates that a budget pays for.

        Args:
            evaluations: the budget, in evaluations on all select prompts.
            untried: leaders that were not candidates, such as a blend that a model predicts.

        Raises:
            UserError: the budget does not pay for ``confirm`` leaders.
        """
        if self.confirm is None:
            return evaluations
        if self.confirm + untried > evaluations:
            most = evaluations - untried
            raise UserError(f"method.search.confirm={self.confirm}: evaluations={evaluations} pays for {most} at most")
        return 2 * evaluations - self.confirm - untried


def leaders(best_M: Tensor, evaluated_WM: Tensor, utility_W: Tensor, count: int) -> Tensor:
    """(C, M) different directions: the answer of the search first, then the best candidates. The origin is no blend."""
    order_W = utility_W.argsort(descending=True, stable=True)
    found: dict[tuple[float, ...], Tensor] = {}
    for weights_M in directions(torch.cat([best_M[None], evaluated_WM[order_W]])):
        if weights_M.any():
            found.setdefault(key_of(weights_M), weights_M)
        if len(found) == count:
            break
    return torch.stack(list(found.values()))


def pooled(explored_WK: Tensor, fresh_WK: Tensor, prompts: tuple[int, int]) -> Tensor:
    """(W, K) means over the prompts of both halves.

    An objective that applies to no prompt of one half has the mean of the other half.
    """
    sizes_2 = torch.tensor(prompts, dtype=torch.float64)
    return weighted_mean(torch.stack([explored_WK, fresh_WK], dim=-1), sizes_2 / sizes_2.sum())


def directions(weights_WM: Tensor) -> Tensor:
    """Each weight vector scaled to sum 1, because a search does not choose a blend's temperature. The origin stays."""
    total_W1 = weights_WM.sum(1, keepdim=True)
    return weights_WM / torch.where(total_W1 == 0, 1.0, total_W1)


def key_of(weights_M: Tensor) -> tuple[float, ...]:
    """The key under which a direction is cached."""
    return tuple(round(w, DIGITS) for w in weights_M.tolist())
