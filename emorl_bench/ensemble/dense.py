"""Merges of full rank: the updates of experts as dense matrices, and back into an adapter without rounding.

Trimming, electing signs and dropping act on single entries of ``scale * B A``, so the result has full rank. It becomes
an adapter as the product of itself and an identity matrix, which is exact at rank min(out, in). A singular value
decomposition of the same rank would take longer, and would round. Memory while merging: the dense updates of M experts
for one layer, and the merged updates of all layers. Time while decoding: nothing more where one adapter is folded into
the weights. In a model too large for that it is up to three times the base's matrix products (`decoding.fused.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emorl_bench.models.lora import Adapter


def update(adapter: Adapter, layer: str) -> Tensor:
    """(O, I): what an adapter adds to the weight of one layer."""
    a_RI, b_OR = (factor.detach() for factor in adapter.factors[layer])
    return adapter.scale * (b_OR @ a_RI)


def updates(adapters: Sequence[Adapter], layer: str) -> Tensor:
    """(M, O, I): what each adapter adds to the weight of one layer."""
    return torch.stack([update(adapter, layer) for adapter in adapters])


def dense_adapter(updates_OI: Mapping[str, Tensor]) -> Adapter:
    """The adapter whose update of each layer is this matrix (O, I), to the bit."""
    factors = {}
    for layer, update_OI in updates_OI.items():
        outputs, inputs = update_OI.shape
        identity = torch.eye(min(outputs, inputs), dtype=update_OI.dtype, device=update_OI.device)
        factors[layer] = (identity, update_OI) if inputs <= outputs else (update_OI, identity)
    return Adapter(factors, scale=1.0)


def kept_from(adapter: Adapter, density: float) -> float:
    """The smallest magnitude among the largest entries, a share ``density`` of the entries of all layers together."""
    if density == 1:
        return 0.0
    sizes = torch.cat([update(adapter, layer).abs().flatten() for layer in adapter.factors])
    kept = max(1, round(density * len(sizes)))
    return float(sizes.kthvalue(len(sizes) - kept + 1).values)


def per_expert(values: Sequence[float] | Tensor, like_MOI: Tensor) -> Tensor:
    """(M, 1, 1): one number for each expert, in a shape that multiplies its updates (M, O, I)."""
    return torch.as_tensor(values, dtype=torch.float64).to(like_MOI)[:, None, None]
