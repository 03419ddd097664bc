"""TIES (2306.01708) of the experts that EMORL blends: trim, elect signs, merge what agrees.

Of each expert's update the largest ``density`` of all entries stay; each entry's sign is that of the weighted sum; the
entry is the weighted mean of the experts that have this sign there, times ``scale``. Uniform weights are the paper's
merge. Against its release: the experts are LoRA updates, made dense; exactly ``density`` of the entries stay (the
release keeps one more); entries whose sum is exactly 0 stay 0, where the release gives them the majority's sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.ensemble.dense import dense_adapter, kept_from, per_expert, updates
from emorl_bench.ensemble.merging import OneByOne, check_share
from emorl_bench.models.lora import Adapter


@dataclass(frozen=True)
class Ties(Aggregator):
    """``density``: share of each expert's entries that stays. ``scale``: the merge is multiplied by it. The paper's
    recommendation, a fifth of the entries and a scale of 1, is the default.
    """

    density: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_share("density", self.density, zero=False, one=True)
        if self.scale <= 0:
            raise UserError(f"method.aggregator.scale={self.scale}: give a number above 0, such as 1")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        least_M = [kept_from(adapter, self.density) for adapter in adapters]
        return dense_adapter(
            {layer: self.scale * agreed(updates(adapters, layer), least_M, weights_M) for layer in adapters[0].factors}
        )


def agreed(updates_MOI: Tensor, least_M: Sequence[float], weights_M: Tensor) -> Tensor:
    """(O, I): the weighted mean, entry by entry, of the trimmed updates that have the elected sign."""
    weights_M11 = per_expert(weights_M, updates_MOI)
    large_MOI = updates_MOI.abs() >= per_expert(least_M, updates_MOI)
    weighted_MOI = updates_MOI * large_MOI * weights_M11
    elected_OI = weighted_MOI.sum(0).sign()
    agrees_MOI = (weighted_MOI.sign() == elected_OI) & (weighted_MOI != 0)
    share_OI = (agrees_MOI * weights_M11).sum(0)
    return torch.where(share_OI > 0, (weighted_MOI * agrees_MOI).sum(0) / share_OI, 0.0)
