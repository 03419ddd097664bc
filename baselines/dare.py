"""DARE (2311.03099) of the experts that EMORL blends: drop entries of each update at random, rescale the rest, average.

``m * update / (1 - drop)`` with m Bernoulli(1 - drop) has the update itself as its expectation, so the merge is a soup
with noise, whose variance is ``drop / (1 - drop)`` times the squared entry. Against the paper: the experts are LoRA
updates, made dense; the drop rate of supervised experts (0.9 and more) is for updates far smaller than the weights, and
those of adapters trained by reinforcement need not be. The mask depends on the seed, the expert and the layer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.ensemble.dense import dense_adapter, update
from emorl_bench.ensemble.merging import OneByOne, check_share
from emorl_bench.models.lora import Adapter


@dataclass(frozen=True)
class Dare(Aggregator):
    """``drop``: share of each expert's entries that goes. ``seed``: of what is drawn, once for a run."""

    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_share("drop", self.drop, zero=True, one=False)

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        merged = {}
        for layer in adapters[0].factors:
            sparse = [self.dropped(update(adapter, layer), m, layer) for m, adapter in enumerate(adapters)]
            merged[layer] = torch.stack([w * own for w, own in zip(weights_M.tolist(), sparse, strict=True)]).sum(0)
        return dense_adapter(merged)

    def dropped(self, update_OI: Tensor, expert: int, layer: str) -> Tensor:
        """(O, I): what is left of one expert's update, rescaled."""
        drawn_OI = torch.rand(update_OI.shape, generator=stream(self.seed, "dare", expert, layer))
        return update_OI * (drawn_OI >= self.drop).to(update_OI) / (1 - self.drop)
