"""What weightings that move have in common: the preference that they serve, their weights, and gains of validations."""

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
    """A reward whose weights change. The preference, by which utility is measured, does not change.

    All state follows from the arguments of `observe`, in order, and from the seed. A run that resumes repeats these
    calls.
    """

    bench: Bench
    preference: FixedWeights
    weights_K: Tensor = field(init=False)
    rounds: int = field(init=False, default=0)  # validations so far

    def __post_init__(self) -> None:
        """The weights start at the preference."""
        self.weights_K = self.preference_K

    @property
    def preference_K(self) -> Tensor:
        """(K,) the weights of the preference."""
        return torch.tensor(self.preference.weights, dtype=torch.float64)

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """(B, K), as the preference shapes scores."""
        return self.preference.shaped(scores_BK)

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        """(B,) the sum of shaped scores (B, K) under the current weights."""
        return replace(self.preference, weights=tuple(self.weights_K.tolist())).weighted(shaped_BK)

    def utility(self, scores_K: Tensor) -> float:
        """The weighted mean score under the preference."""
        return self.preference.utility(scores_K)

    def observe(self, validation_K: Tensor) -> None:
        """Count a validation (K,), and move the weights."""
        self.rounds += 1
        self.move(validation_K.double())

    def move(self, validation_K: Tensor) -> None:
        """Set the weights after a validation (K,). A weighting that follows each batch alone does nothing here."""

    def metrics(self) -> Metrics:
        """The weights as ``weights/<objective>``, and the remarks."""
        weights = zip(self.bench.objectives, self.weights_K.tolist(), strict=True)
        return {f"weights/{name}": weight for name, weight in weights} | dict(self.remarks())

    def remarks(self) -> Mapping[str, float]:
        """Further metrics, as ``weighting/...``."""
        return {}

    def rng(self) -> torch.Generator:
        """The random stream of this round."""
        return stream(self.bench.seed, "weighting", self.rounds)


@dataclass
class Gains:
    """``D_k``: a validation's mean score minus the mean of the ``look_back`` validations before it.

    This is that of DynaOpt's released code. Its 200 scores are one pass over its 200 validation prompts, so
    ``look_back`` is 1 there.
    """

    look_back: int = 1
    past: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the setting.

        Raises:
            UserError: ``look_back`` is below 1.
        """
        if self.look_back < 1:
            raise UserError(f"method.weighting.look_back={self.look_back}: needs at least 1 validation to compare with")

    def __call__(self, validation_K: Tensor) -> Tensor | None:
        """(K,) gains of a validation (K,); ``None`` at the first one, which has nothing before it."""
        recent = self.past[-self.look_back :]
        self.past.append(validation_K)
        return validation_K - mean_scores(torch.stack(recent)) if recent else None


Paid = Literal["standardised", "plain"]


@dataclass
class Payment:
    """What a gain pays a bandit: the gain itself, or its standing among the gains so far.

    Exp3 expects rewards that fill [0, 1]. Gains between validations are some hundredths; with 4 arms the largest
    probability is then below .26 after 200 draws. ``standardised`` pays the gain minus the mean of earlier gains, in
    units of the mean distance of all gains so far from that mean, cut to [-1, 1]. The first gain pays 0.
    """

    paid: Paid
    past: list[float] = field(default_factory=list)

    def __call__(self, gain: float) -> float:
        """The payment of a gain, which is noted."""
        if self.paid == "plain":
            return gain
        earlier, self.past = self.past, [*self.past, gain]
        if not earlier:
            return 0.0
        mean = statistics.fmean(earlier)
        unit = statistics.fmean(abs(past - mean) for past in self.past)
        return max(-1.0, min(1.0, (gain - mean) / unit)) if unit > 0 else 0.0


def scaled(preference_K: Tensor, factors_K: Floats | Sequence[float]) -> Tensor:
    """(K,) the preference times factors, scaled to sum 1; the preference itself where the product is 0."""
    product_K = preference_K * torch.from_numpy(np.asarray(factors_K, dtype=np.float64))
    return product_K / product_K.sum() if product_K.sum() > 0 else preference_K


def only(k: int, of: int) -> Tensor:
    """(K,) all weight on objective ``k`` of ``of`` objectives."""
    return torch.eye(of, dtype=torch.float64)[k]


def check_gamma(gamma: float) -> float:
    """``gamma`` itself.

    Raises:
        UserError: it is not above 0 and at most 1.
    """
    if not 0 < gamma <= 1:
        raise UserError(f"method.weighting.gamma={gamma}: must be more than 0 and at most 1, such as 0.07")
    return gamma
