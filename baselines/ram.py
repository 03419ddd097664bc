"""RAM (2601.13572): a merge of EMORL's experts that averages shared changes and keeps unique changes whole.

An expert has changed an entry where its update exceeds ``threshold``. An entry that several experts have changed is the
mean of those experts. An entry that one expert alone has changed is that expert's, times ``1 + rescale * min(rho,
ceiling)``. Here rho is the number of the expert's shared entries over the number of its unique ones, counted over all
layers. This is RAM+; ``rescale`` 0 is RAM. Weights make the mean a weighted one. A unique entry has no other to be
weighed against, so only a weight of 0 removes it.

Against the release: it merges full models, whose updates by reinforcement learning are sparse. Updates of LoRA are
dense, so at any small threshold all entries are shared, and RAM is the soup. So only the largest ``density`` of an
expert's entries count as changed, as in TIES. With ``density`` 1 and uniform weights this is the release.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.ensemble.dense import dense_adapter, kept_from, per_expert, updates
from emorl_bench.ensemble.merging import OneByOne, check_share
from emorl_bench.models.lora import Adapter


@dataclass(frozen=True)
class Ram(Aggregator):
    """RAM, and with ``rescale`` above 0 RAM+.

    Attributes:
        density: the share of each expert's entries that may count as changed.
        threshold: the magnitude above which an entry counts as changed.
        rescale: how much unique entries grow with rho; 0 is RAM.
        ceiling: the largest rho that counts.
    """

    density: float = 0.2
    threshold: float = 1e-5
    rescale: float = 0.2
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``density`` lies outside (0, 1], or another setting is negative.
        """
        check_share("density", self.density, zero=False, one=True)
        for key in ("threshold", "rescale", "ceiling"):
            if (value := getattr(self, key)) < 0:
                raise UserError(f"method.aggregator.{key}={value}: give 0 or more")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The merge under weights (M,), as a dense adapter."""
        weighted = zip(adapters, weights_M.tolist(), strict=True)
        least_M = [kept_from(adapter, self.density) if weight > 0 else math.inf for adapter, weight in weighted]
        layers = list(adapters[0].factors)
        stretch_M = self._stretch(self._changed(updates(adapters, layer), least_M) for layer in layers)
        return dense_adapter(
            {layer: self._layer(updates(adapters, layer), least_M, weights_M, stretch_M) for layer in layers}
        )

    def _changed(self, updates_MOI: Tensor, least_M: Sequence[float]) -> Tensor:
        """Which entries each expert has changed: (M, O, I) -> bool (M, O, I)."""
        sizes_MOI = updates_MOI.abs()
        return (sizes_MOI >= per_expert(least_M, updates_MOI)) & (sizes_MOI > self.threshold)

    def _stretch(self, changed: Iterable[Tensor]) -> Tensor:
        """The factor (M,) of each expert's unique entries."""
        counts = [torch.stack([own.sum((1, 2)), alone(own).sum((1, 2))]) for own in changed]
        all_M, alone_M = torch.stack(counts).sum(0).double().unbind()
        return 1 + self.rescale * ((all_M - alone_M) / alone_M.clamp_min(1)).clamp_max(self.ceiling)

    def _layer(self, updates_MOI: Tensor, least_M: Sequence[float], weights_M: Tensor, stretch_M: Tensor) -> Tensor:
        """The merged update (O, I) of one layer."""
        changed_MOI = self._changed(updates_MOI, least_M)
        shares_MOI = changed_MOI * per_expert(weights_M, updates_MOI)
        shares_MOI = shares_MOI / shares_MOI.sum(0).clamp_min(torch.finfo(shares_MOI.dtype).tiny)
        shares_MOI = torch.where(alone(changed_MOI), per_expert(stretch_M, updates_MOI), shares_MOI)
        return (updates_MOI * shares_MOI).sum(0)


def alone(changed_MOI: Tensor) -> Tensor:
    """Which entries one expert alone has changed: (M, O, I) -> (M, O, I)."""
    return changed_MOI & (changed_MOI.sum(0) == 1)
