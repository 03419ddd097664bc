"""Merges that are not low-rank: experts' updates as dense matrices, and back into an adapter without rounding.

Trimming, electing signs and dropping act on single entries of ``scale * B A``, so what comes out has full rank. It
goes back as the product of itself and an identity, which is exact at rank min(out, in); a singular value decomposition
of the same rank would take longer and round. Prices: while it merges, dense updates of M experts for one layer, and the
merged one for all; while it decodes, nothing where one adapter is folded into the weights, and up to three times the
base's matrix products in a model too large for that (`decoding.fused.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Generator, Policy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.backbone import concatenated
from emorl_bench.models.lora import Adapter
from emorl_bench.policies.adapter_policy import on_one_base


class Merge(Protocol):
    """How M adapters become one. Weights are not negative; an expert of weight 0 is not there."""

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter: ...
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator: ...


@dataclass(frozen=True)
class OneByOne:
    """W merged policies, rows weight-major, merged and decoded one after the other: side by side each row would pay for
    all W full ranks. The same random numbers for each, as everywhere.
    """

    experts: Sequence[Policy]
    weights_WM: Tensor
    merge: Merge

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        decoder, adapters = on_one_base(self.experts)
        start, rollouts = rng.get_state(), []
        for weights_M in self.weights_WM:
            rng.set_state(start)
            one = self.merge.merged(adapters, weights_M)
            rollouts.append(decoder.decode_policies([one], None, [examples], sampling, [rng]))
        if len(rollouts) == 1:
            return rollouts[0]
        return replace(concatenated(rollouts), group_size=sampling.samples_per_prompt)


def update(adapter: Adapter, layer: str) -> Tensor:
    """(O, I): what an adapter adds to one layer's weight."""
    a_RI, b_OR = (factor.detach() for factor in adapter.factors[layer])
    return adapter.scale * (b_OR @ a_RI)


def updates(adapters: Sequence[Adapter], layer: str) -> Tensor:
    """(M, O, I)"""
    return torch.stack([update(adapter, layer) for adapter in adapters])


def dense_adapter(updates_OI: Mapping[str, Tensor]) -> Adapter:
    """The adapter whose update of each layer is this matrix, to the bit."""
    factors = {}
    for layer, update_OI in updates_OI.items():
        outputs, inputs = update_OI.shape
        identity = torch.eye(min(outputs, inputs), dtype=update_OI.dtype, device=update_OI.device)
        factors[layer] = (identity, update_OI) if inputs <= outputs else (update_OI, identity)
    return Adapter(factors, scale=1.0)


def kept_from(adapter: Adapter, density: float) -> float:
    """The magnitude from which on an entry is among the largest ``density`` of all layers' entries together."""
    if density == 1:
        return 0.0
    sizes = torch.cat([update(adapter, layer).abs().flatten() for layer in adapter.factors])
    kept = max(1, round(density * len(sizes)))
    return float(sizes.kthvalue(len(sizes) - kept + 1).values)


def per_expert(values: Sequence[float] | Tensor, like_MOI: Tensor) -> Tensor:
    """(M, 1, 1): one number for each expert, beside its updates."""
    return torch.as_tensor(values, dtype=torch.float64).to(like_MOI)[:, None, None]


def check_share(key: str, value: float, *, zero: bool, one: bool) -> None:
    """Raise a `UserError` unless ``value`` is between 0 and 1; ``zero`` and ``one`` say whether these are too."""
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        low, high = "from 0" if zero else "above 0", "up to 1" if one else "to below 1"
        raise UserError(f"method.{key}={value}: give a number {low} {high}")
