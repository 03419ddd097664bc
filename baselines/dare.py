"""DARE (2311.03099): a merge of EMORL's experts in which entries of each update are dropped at random.

What is left of an update is rescaled to ``m * update / (1 - drop)`` with m Bernoulli(1 - drop). Its expectation is the
update itself, so the merge is a soup with noise. The variance of the noise is ``drop / (1 - drop)`` times the squared
entry. The mask depends on the seed, the expert and the layer alone.

Against the paper: the experts are LoRA updates, made dense. The drop rate of supervised experts (0.9 and more) is for
updates far smaller than the weights. Updates of adapters that were trained by reinforcement learning need not be so
small.
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
    """A soup of updates that have lost entries at random.

    Attributes:
        drop: the share of each expert's entries that is dropped.
        seed: the seed of the mask, which is drawn once for a run.
    """

    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``drop`` lies outside [0, 1).
        """
        check_share("drop", self.drop, zero=True, one=False)

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The merge under weights (M,), as a dense adapter."""
        merged = {}
        for layer in adapters[0].factors:
            sparse = [self.dropped(update(adapter, layer), m, layer) for m, adapter in enumerate(adapters)]
            merged[layer] = torch.stack([w * own for w, own in zip(weights_M.tolist(), sparse, strict=True)]).sum(0)
        return dense_adapter(merged)

    def dropped(self, update_OI: Tensor, expert: int, layer: str) -> Tensor:
        """What is left of one expert's update (O, I), rescaled by ``1 / (1 - drop)``."""
        drawn_OI = torch.rand(update_OI.shape, generator=stream(self.seed, "dare", expert, layer))
        return update_OI * (drawn_OI >= self.drop).to(update_OI) / (1 - self.drop)
