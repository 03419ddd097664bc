"""A learned substitute for a gold scorer, which is meant to be over-optimised: one or more heads, and a statistic.

The statistic of the members' rewards goes through a sigmoid, so scores are in [0, 1]. The held-out twin is the gold
itself, of which the proxy has seen only labels. So a run's own columns are the proxy's, and its held-out columns are
gold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emorl_bench.assets.shipped import FAMILIES
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.ledger import Cost
from emorl_bench.core.types import Example
from emorl_bench.scorer_training.gold_preferences import GoldPairs
from emorl_bench.scorer_training.preference_heads import STATISTICS, statistics
from emorl_bench.scorer_training.proxies import Unit, card, ensure, rewards
from emorl_bench.scorer_training.shapes import exact_sigmoid
from emorl_bench.scorers.gold import Gold
from emorl_bench.scorers.rule import DeviceScorer

AT_LEAST = {"members": 1, "pairs": 8, "width": 2, "epochs": 1, "batch": 1, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Proxy(DeviceScorer):
    """``members`` rewards. Each has an encoder of its own, or with ``shared`` all have one (see `Unit`)."""

    members: int
    shared: bool
    statistic: str
    uncertainty_weight: float
    label_noise: float
    pairs: int
    answers: str
    width: int
    epochs: int
    batch: int
    rate: float
    seed: int
    name: str = "proxy"

    @property
    def units(self) -> list[Unit]:
        """What is trained.

        Raises:
            UserError: a setting is wrong.
        """
        self._check()
        data = GoldPairs(self.answers, self.pairs, self.label_noise, self.seed)
        trained: dict[str, Any] = {k: getattr(self, k) for k in ("width", "epochs", "batch", "rate")}
        if self.shared:
            return [Unit(data, self.members, 0, **trained)]
        return [Unit(data, 1, member, **trained) for member in range(self.members)]

    def prepare(self) -> None:
        """Train what is not in the cache: about a second for each encoder."""
        for unit in self.units:
            ensure(unit)

    def held_out(self) -> Gold:
        """The gold scorer."""
        return Gold(self.name)

    def fingerprint(self) -> str:
        """Hashes of all that its units are trained from."""
        return "-".join(["proxy", *(unit.directory.name for unit in self.units)])

    def costs(self) -> Mapping[str, Cost]:
        """Parameters, bytes and training seconds of this proxy's form."""
        cost = Cost()
        for found in map(card, self.units):
            cost.parameters += found["parameters"]
            cost.peak_bytes += found["bytes"]
            cost.wall_seconds += found["train_seconds"]
        return {"shared" if self.shared else "full": cost}

    def rewards(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B, members) rewards in standard deviations of the training texts."""
        texts = [(e.prompt, r) for e, r in zip(examples, responses, strict=True)]
        return torch.cat([rewards(unit, texts, self.device) for unit in self.units], dim=1)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]. An empty response scores 0."""
        return self.merged(self.rewards(examples, responses), responses)

    def merged(self, rewards_BM: Tensor, responses: Sequence[str]) -> Tensor:
        """(B,) scores from the members' rewards."""
        merged_B = statistics(rewards_BM, self.statistic, self.uncertainty_weight)
        said_B = torch.tensor([bool(response.strip()) for response in responses])
        return exact_sigmoid(merged_B) * said_B

    def _check(self) -> None:
        where = f"scorer {self.name}"
        for key, known in (("statistic", STATISTICS), ("answers", FAMILIES)):
            if (value := getattr(self, key)) not in known:
                raise UserError(f"{where}: {key}={value}: unknown{did_you_mean(value, known)}")
        for key, least in AT_LEAST.items():
            if (value := getattr(self, key)) < least:
                raise UserError(f"{where}: {key}={value}: give {least} or more")
        if not 0 <= self.label_noise < 0.5:
            raise UserError(f"{where}: label_noise={self.label_noise}: give a share from 0 to below 0.5")
        if self.uncertainty_weight < 0 or self.rate <= 0:
            raise UserError(f"{where}: uncertainty_weight must be 0 or more, and rate above 0")
