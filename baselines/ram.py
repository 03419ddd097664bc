"""RAM (2601.13572) of the experts that EMORL blends: what several have changed is averaged, what one alone has changed
is kept whole.

An expert has changed an entry where its update exceeds ``threshold``. Shared entries are the mean of the experts that
changed them; unique ones are that expert's, times ``1 + rescale * min(rho, ceiling)`` with rho the expert's shared
entries over its unique ones, counted over all layers (RAM+; ``rescale`` 0 is RAM). Weights, here, make the mean a
weighted one; what is unique has no other to be weighed against, so only a weight of 0 removes it.

Against the release: it merges full models, whose updates by reinforcement are sparse. Those of LoRA are dense: at any
small threshold all is shared, and RAM is the soup. So only the largest ``density`` of an expert's entries, as in TIES,
count as changed; with ``density`` 1 and uniform weights it is the release.
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
    """``density``: share of each expert's entries that may count as changed. ``rescale``, ``ceiling`` and ``threshold``
    are the release's for RAM+; ``rescale`` 0 is RAM.
    """

    density: float = 0.2
    threshold: float = 1e-5
    rescale: float = 0.2
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        check_share("density", self.density, zero=False, one=True)
        for key in ("threshold", "rescale", "ceiling"):
            if (value := getattr(self, key)) < 0:
                raise UserError(f"method.aggregator.{key}={value}: give 0 or more")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        weighted = zip(adapters, weights_M.tolist(), strict=True)
        least_M = [kept_from(adapter, self.density) if weight > 0 else math.inf for adapter, weight in weighted]
        layers = list(adapters[0].factors)
        stretch_M = self._stretch(self._changed(updates(adapters, layer), least_M) for layer in layers)
        return dense_adapter(
            {layer: self._layer(updates(adapters, layer), least_M, weights_M, stretch_M) for layer in layers}
        )

    def _changed(self, updates_MOI: Tensor, least_M: Sequence[float]) -> Tensor:
        """(M, O, I) bool"""
        sizes_MOI = updates_MOI.abs()
        return (sizes_MOI >= per_expert(least_M, updates_MOI)) & (sizes_MOI > self.threshold)

    def _stretch(self, changed: Iterable[Tensor]) -> Tensor:
        """(M,): what each expert's unique entries are multiplied by."""
        counts = [torch.stack([own.sum((1, 2)), alone(own).sum((1, 2))]) for own in changed]
        all_M, alone_M = torch.stack(counts).sum(0).double().unbind()
        return 1 + self.rescale * ((all_M - alone_M) / alone_M.clamp_min(1)).clamp_max(self.ceiling)

    def _layer(self, updates_MOI: Tensor, least_M: Sequence[float], weights_M: Tensor, stretch_M: Tensor) -> Tensor:
        """(O, I)"""
        changed_MOI = self._changed(updates_MOI, least_M)
        shares_MOI = changed_MOI * per_expert(weights_M, updates_MOI)
        shares_MOI = shares_MOI / shares_MOI.sum(0).clamp_min(torch.finfo(shares_MOI.dtype).tiny)
        shares_MOI = torch.where(alone(changed_MOI), per_expert(stretch_M, updates_MOI), shares_MOI)
        return (updates_MOI * shares_MOI).sum(0)


def alone(changed_MOI: Tensor) -> Tensor:
    """Where an expert has changed what no other has."""
    return changed_MOI & (changed_MOI.sum(0) == 1)
