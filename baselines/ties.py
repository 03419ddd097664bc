"""TIES (2306.01708): a merge of EMORL's experts that trims updates, elects signs, and averages what agrees.

The largest ``density`` of all entries of each expert's update stay. The sign of each merged entry is that of the
weighted sum. The entry is the weighted mean of the experts that have this sign there, times ``scale``. With uniform
weights this is the paper's merge.

Against the release: the experts are LoRA updates, made dense. Exactly ``density`` of the entries stay, where the
release keeps one more. Entries whose sum is exactly 0 stay 0, where the release gives them the majority's sign.
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
    """TIES; the paper recommends a fifth of the entries and a scale of 1.

    Attributes:
        density: the share of each expert's entries that stays.
        scale: the factor of the merged update.
    """

    density: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``density`` lies outside (0, 1], or ``scale`` is not positive.
        """
        check_share("density", self.density, zero=False, one=True)
        if self.scale <= 0:
            raise UserError(f"method.aggregator.scale={self.scale}: give a number above 0, such as 1")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The merge under weights (M,), as a dense adapter."""
        least_M = [kept_from(adapter, self.density) for adapter in adapters]
        return dense_adapter(
            {layer: self.scale * agreed(updates(adapters, layer), least_M, weights_M) for layer in adapters[0].factors}
        )


def agreed(updates_MOI: Tensor, least_M: Sequence[float], weights_M: Tensor) -> Tensor:
    """The merged update of one layer: the weighted mean of the trimmed updates that have the elected sign.

    Args:
        updates_MOI: the updates of M experts.
        least_M: the magnitude from which an entry of each expert stays.
        weights_M: the weight of each expert.

    Returns:
        (O, I); 0 where no expert has the elected sign.
    """
    weights_M11 = per_expert(weights_M, updates_MOI)
    large_MOI = updates_MOI.abs() >= per_expert(least_M, updates_MOI)
    weighted_MOI = updates_MOI * large_MOI * weights_M11
    elected_OI = weighted_MOI.sum(0).sign()
    agrees_MOI = (weighted_MOI.sign() == elected_OI) & (weighted_MOI != 0)
    share_OI = (agrees_MOI * weights_M11).sum(0)
    return torch.where(share_OI > 0, (weighted_MOI * agrees_MOI).sum(0) / share_OI, 0.0)
