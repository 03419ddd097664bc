"""Parameter merging: the same experts, averaged once in weight space instead of at every token (rewarded soups,
2306.04488; model soups 2203.05482).

The merge is ``sum_m w_m B_m A_m`` on the base, exact, kept in low-rank form by stacking the factors. PEFT's "linear"
adapter average is not this: it multiplies averages and so adds cross terms ``B_i A_j``.

`method=param_merge` searches the soup for each preference with the very search that EMORL uses;
`method=param_merge_uniform` is the uniform soup, one policy.
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
        return SideBySide(experts, weights_WM)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        return merge(adapters, weights_M)
