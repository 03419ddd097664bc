"""What weightings that move have in common: the preference they serve, their weights, and gains between validations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import mean_scores
from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Metrics
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings.bandits import Floats


@dataclass
class MovingWeights(Weighting):
    """A reward whose weights change; what a score is worth in the end, the preference, does not.

    All state follows from what `observe` was told, in order, and from the seed: a resumed run is told it again.
    """

    bench: Bench
    preference: FixedWeights
    weights_K: Tensor = field(init=False)
    rounds: int = field(init=False, default=0)  # validations so far

    def __post_init__(self) -> None:
        self.weights_K = self.preference_K

    @property
    def preference_K(self) -> Tensor:
        return torch.tensor(self.preference.weights, dtype=torch.float64)

    def shaped(self, scores_BK: Tensor) -> Tensor:
        return self.preference.shaped(scores_BK)

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        return replace(self.preference, weights=tuple(self.weights_K.tolist())).weighted(shaped_BK)

    def utility(self, scores_K: Tensor) -> float:
        return self.preference.utility(scores_K)

    def observe(self, validation_K: Tensor) -> None:
        self.rounds += 1
        self.move(validation_K.double())

    def move(self, validation_K: Tensor) -> None:
        """New weights after another validation; where weights follow the batch alone there is nothing to do."""

    def metrics(self) -> Metrics:
        weights = zip(self.bench.objectives, self.weights_K.tolist(), strict=True)
        return {f"weights/{name}": weight for name, weight in weights} | dict(self.remarks())

    def remarks(self) -> Mapping[str, float]:
        """What else is worth logging, as ``weighting/...``."""
        return {}

    def rng(self) -> torch.Generator:
        """This round's random stream."""
        return stream(self.bench.seed, "weighting", self.rounds)


@dataclass
class Gains:
    """``D_k``: a validation's mean score less the mean of the ``look_back`` validations before it (DynaOpt, released
    code, whose 200 scores are one pass over its 200 validation prompts: one).
    """

    look_back: int = 1
    past: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.look_back < 1:
            raise UserError(f"method.weighting.look_back={self.look_back}: needs at least 1 validation to compare with")

    def __call__(self, validation_K: Tensor) -> Tensor | None:
        """(K,); None at the first validation, before which there is nothing."""
        recent = self.past[-self.look_back :]
        self.past.append(validation_K)
        return validation_K - mean_scores(torch.stack(recent)) if recent else None


Paid = Literal["standardised", "plain"]


@dataclass
class Payment:
    """What a gain pays a bandit: the gain itself, or its place among the gains so far.

    Exp3 expects rewards that fill [0, 1]; gains between validations are some hundredths, and of 4 arms' probabilities
    the largest is then below .26 after 200 draws. ``standardised``: less the mean of the gains before it, in units of
    the mean distance from that, cut to [-1, 1]. The first pays 0.
    """

    paid: Paid
    past: list[float] = field(default_factory=list)

    def __call__(self, gain: float) -> float:
        if self.paid == "plain":
            return gain
        earlier, self.past = self.past, [*self.past, gain]
        if not earlier:
            return 0.0
        mean = statistics.fmean(earlier)
        unit = statistics.fmean(abs(past - mean) for past in self.past)
        return max(-1.0, min(1.0, (gain - mean) / unit)) if unit > 0 else 0.0


def scaled(preference_K: Tensor, factors_K: Floats | Sequence[float]) -> Tensor:
    """The preference, each weight times a factor, the sum again 1; the preference itself where nothing is left."""
    product_K = preference_K * torch.from_numpy(np.asarray(factors_K, dtype=np.float64))
    return product_K / product_K.sum() if product_K.sum() > 0 else preference_K


def only(k: int, of: int) -> Tensor:
    """(K,) all weight on objective k."""
    return torch.eye(of, dtype=torch.float64)[k]


def check_gamma(gamma: float) -> float:
    """Raises: UserError: not a share."""
    if not 0 < gamma <= 1:
        raise UserError(f"method.weighting.gamma={gamma}: must be more than 0 and at most 1, such as 0.07")
    return gamma
