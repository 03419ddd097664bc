"""Parameter merging: the experts averaged once in weight space, and not at every token.

Sources: rewarded soups (2306.04488) and model soups (2203.05482). The merge is ``sum_m w_m B_m A_m`` on the base. It is
exact and stays in low-rank form, because the factors are stacked. PEFT's "linear" average of adapters is something
else: it multiplies averages, and so adds cross terms ``B_i A_j``.

`method=param_merge` searches the soup for each preference, with the same search as EMORL. `method=param_merge_uniform`
is the uniform soup, one policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.ensemble.merging import SideBySide
from emorl_bench.models.lora import Adapter, merge


@dataclass(frozen=True)
class Soup(Aggregator):
    """The weighted sum of the experts' updates."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`; the merges of all weight vectors are decoded in one batch."""
        return SideBySide(experts, weights_WM)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The exact merge under weights (M,) (`models.lora.merge`)."""
        return merge(adapters, weights_M)
