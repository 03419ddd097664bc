"""Low-rank adapters on shared base weights, several at once.

A `LoraLinear` computes ``x W^T + scale * (x A^T) B^T`` (LoRA, 2106.09685, eq. 3). Adapters live outside the model, so
switching one on or off copies nothing. `active` gives each layer the stacked factors of N adapters, and the layer
treats its input rows as N equal blocks, one for each adapter. With N = 1 it has one adapter. Without adapters it is the
reference model. With a `RowMix` every row has its own weighted sum of the adapters instead, so several merges are
decoded in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.models.quantised import QuantisedLinear


@dataclass(frozen=True)
class AdapterSettings:
    """Shape of an adapter.

    Attributes:
        rank: r, the width of the two factors.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: probability by which inputs of the adapter are dropped in training.
        targets: last parts of the names of modules; None means every linear layer except the head.
    """

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None

    @property
    def scale(self) -> float:
        """The factor ``alpha / rank`` of the update."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Adapter:
    """The low-rank update ``scale * B A`` of every target.

    Attributes:
        factors: A (r, in) and B (out, r) by the name of the module.
        scale: the factor of the update.
        dropout: probability by which inputs are dropped in forward passes with gradients.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    scale: float
    dropout: float = 0.0

    def parameters(self) -> Iterator[nn.Parameter]:
        """The factors that can be trained; a merge has none."""
        for a, b in self.factors.values():
            yield from (t for t in (a, b) if isinstance(t, nn.Parameter))

    def tensors(self) -> dict[str, Tensor]:
        """The factors under PEFT's names of LoRA weights; not copies."""
        named = {}
        for module, (a, b) in self.factors.items():
            named[f"base_model.model.{module}.lora_A.weight"] = a.detach()
            named[f"base_model.model.{module}.lora_B.weight"] = b.detach()
        return named


@dataclass
class RowMix:
    """The weights (R, M) of each row for the M adapters. They may be replaced between two forward passes."""

    weights_RM: Tensor


@dataclass(frozen=True)
class LowRankUpdate:
    """What a layer adds to its rows while adapters are active: stacked factors A (N, r, in) and B (N, out, r)."""

    a_NRI: Tensor
    b_NOR: Tensor
    scale: float
    dropout: float
    mix: RowMix | None


class LoraLinear(nn.Module):
    """A frozen linear layer that adds the updates of the active adapters: ``nn.Linear``, ``Conv1D`` or a quantised one.

    ``foldable`` is false where this process holds only a part of the weight (`sharding`), and where the weight is
    packed (`quantised`): the sum of weight and update would need the memory that packing saves.
    """

    def __init__(self, base: nn.Linear | Conv1D | QuantisedLinear) -> None:
        """Wrap a linear layer; no adapter is active yet."""
        super().__init__()
        self.base: Any = base
        self.foldable = not isinstance(base, QuantisedLinear)
        self.update: LowRankUpdate | None = None
        self._folded: Tensor | None = None  # (out, in): weight plus update of one adapter; only without gradients

    @property
    def weight(self) -> Tensor:
        """The base weight: (out, in), (in, out) for a ``Conv1D``, or packed. T5's feed-forward looks at its dtype."""
        weight: Tensor = self.base.weight
        return weight

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of what the layer computes."""
        dtype: torch.dtype = self.base.dtype if isinstance(self.base, QuantisedLinear) else self.weight.dtype
        return dtype

    @property
    def folds(self) -> bool:
        """Whether an adapter may be added to a copy of the weight."""
        return self.foldable and self.dtype in (torch.float32, torch.float64)

    @property
    def in_features(self) -> int:
        """The width of the input."""
        return int(self.weight.shape[0]) if isinstance(self.base, Conv1D) else int(self.base.in_features)

    @property
    def out_features(self) -> int:
        """The width of the output."""
        return int(self.weight.shape[1]) if isinstance(self.base, Conv1D) else int(self.base.out_features)

    def activate(self, adapters: Sequence[Adapter], name: str, mix: RowMix | None = None) -> None:
        """Add the updates of N adapters from now on.

        One adapter without gradients is added to a copy of the weight, so a forward pass costs as much as the base's.
        Not so in bfloat16: the sum would lose what is small beside the weight, and differ from the training pass.

        Args:
            adapters: the adapters, which share scale and dropout.
            name: this layer's key in their factors.
            mix: weights by which each row sums the adapters; None gives each adapter its own block of rows.
        """
        scale, dropout = adapters[0].scale, adapters[0].dropout
        pairs = [adapter.factors[name] for adapter in adapters]
        if self.folds and len(pairs) == 1 and mix is None and not torch.is_grad_enabled():
            self._folded = self._fold(*pairs[0], scale)
            return
        a_NRI = pairs[0][0][None] if len(pairs) == 1 else torch.stack([a for a, _ in pairs])
        b_NOR = pairs[0][1][None] if len(pairs) == 1 else torch.stack([b for _, b in pairs])
        self.update = LowRankUpdate(a_NRI.to(self.dtype), b_NOR.to(self.dtype), scale, dropout, mix)

    def deactivate(self) -> None:
        """Be the bare base layer again."""
        self.update = self._folded = None

    def _fold(self, a_RI: Tensor, b_OR: Tensor, scale: float) -> Tensor:
        """(out, in) the weight with one adapter added, so that its forward passes cost no more than the base's."""
        weight = self.weight.T if isinstance(self.base, Conv1D) else self.weight
        exact = torch.promote_types(weight.dtype, a_RI.dtype)
        return (weight + scale * (b_OR.to(exact) @ a_RI.to(exact))).to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out); with N adapters B is N equal blocks of rows."""
        if self._folded is not None:
            return nn.functional.linear(x, self._folded, self.base.bias)
        y: Tensor = self.base(x)
        if (update := self.update) is None:
            return y
        a_NRI, b_NOR = update.a_NRI, update.b_NOR
        if update.mix is not None:
            low_BTNR = torch.einsum("bti,nri->btnr", x, a_NRI) * update.mix.weights_RM.to(x)[:, None, :, None]
            return y + update.scale * torch.einsum("btnr,nor->bto", low_BTNR, b_NOR)
        n = a_NRI.shape[0]
        rows = x.reshape(n, -1, x.shape[-1])
        if update.dropout and torch.is_grad_enabled():  # only training has gradients, so sampling never drops
            rows = nn.functional.dropout(rows, update.dropout)
        low = torch.bmm(rows, a_NRI.transpose(1, 2))
        sum_NXO = torch.baddbmm(y.reshape(n, -1, y.shape[-1]), low, b_NOR.transpose(1, 2), alpha=update.scale)
        return sum_NXO.view_as(y)


def inject(model: nn.Module, head: nn.Module, targets: Sequence[str] | None) -> dict[str, LoraLinear]:
    """Put a `LoraLinear` around every target of ``model``, in place; the output ``head`` is never a target.

    Returns:
        the new layers by module name.

    Raises:
        UserError: a target names no linear layer of this model.
    """
    kinds = nn.Linear | Conv1D | QuantisedLinear
    linear = {n: m for n, m in model.named_modules() if isinstance(m, kinds) and m is not head}
    suffixes = {name.rsplit(".", 1)[-1] for name in linear}
    for target in targets or ():
        if target not in suffixes:
            raise UserError(
                f"model.adapter.targets: '{target}' is no linear layer here{did_you_mean(target, suffixes)}"
            )
    layers = {}
    for name, module in linear.items():
        if targets is None or name.rsplit(".", 1)[-1] in targets:
            parent, _, leaf = name.rpartition(".")
            layers[name] = LoraLinear(module)
            setattr(model.get_submodule(parent), leaf, layers[name])
    return layers


def fresh_adapter(layers: dict[str, LoraLinear], settings: AdapterSettings, rng: torch.Generator) -> Adapter:
    """A trainable adapter in float32 that changes nothing yet: A is uniform as in ``nn.Linear``, B is zero."""
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in layers.items():
        device, bound = layer.weight.device, 1 / math.sqrt(layer.in_features)
        a = (torch.rand(settings.rank, layer.in_features, generator=rng) * 2 - 1) * bound
        b = torch.zeros(layer.out_features, settings.rank)
        factors[name] = nn.Parameter(a.to(device)), nn.Parameter(b.to(device))
    return Adapter(factors, settings.scale, settings.dropout)


def merge(adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
    """The exact merge ``sum_m w_m B_m A_m`` under weights (M,): factors are stacked along the rank, B times its weight.

    Averaging A and B separately would not be a merge: it would add the cross terms ``B_i A_j``.
    """
    weights = weights_M.tolist()
    factors = {}
    for name in adapters[0].factors:
        a = torch.cat([adapter.factors[name][0].detach() for adapter in adapters], dim=0)
        b = torch.cat(
            [adapter.factors[name][1].detach() * w for adapter, w in zip(adapters, weights, strict=True)], dim=1
        )
        factors[name] = a, b
    return Adapter(factors, adapters[0].scale)


@contextmanager
def active(layers: dict[str, LoraLinear], adapters: Sequence[Adapter], mix: RowMix | None = None) -> Iterator[None]:
    """Add N adapters to the layers inside this context, each to its own block of rows.

    With a ``mix`` each row has its own weighted sum of the adapters instead. Without adapters the base model stays as
    it is.
    """
    if adapters:
        for name, layer in layers.items():
            layer.activate(adapters, name, mix)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.deactivate()
