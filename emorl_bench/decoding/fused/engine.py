"""What every fused model has in common: prompts are read through transformers, tokens are decoded by our own step.

A step of a few rows is bound by per-call overhead and by reading the weights once. So projections of one input are one
product (`projection`), keys and values are kept in blocks (`cache`) and shared (`rows`), and only the last position is
computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm

from emorl_bench.decoding.fused.projection import Product, Projection
from emorl_bench.decoding.fused.rows import PromptStates, Rows
from emorl_bench.models.lora import Adapter, LoraLinear
from emorl_bench.decoding.prefix_tree import Moves

FOLD_ONE_BYTES = 1 << 28  # a folded weight is a copy; in a model larger than this its low-rank form is no slower
FOLD_SEVERAL_BYTES = 1 << 24  # copies that a processor's cache holds; larger ones are read from memory at every step

Norm = Callable[[Tensor], Tensor]
Products = list[dict[str, Product]]  # by layer, by the name of a projection


class FusedModel(ABC):
    """One base model's decoding step, built once; it holds no second copy of the weights."""

    def __init__(self, model: Any, layers: dict[str, LoraLinear]) -> None:
        self.model = model
        self.names = {id(layer): name for name, layer in layers.items()}
        self.projections: list[dict[str, Projection]] = self._projections()

    def _joined(self, *parts: nn.Module) -> Projection:
        return Projection(parts, self.names)

    @abstractmethod
    def _projections(self) -> list[dict[str, Projection]]: ...

    @abstractmethod
    def read(self, ids_PS: Tensor, mask_PS: Tensor, adapters: int) -> PromptStates:
        """Read P prompts once for each of N adapters, which are active on the model's layers."""

    @abstractmethod
    def step(self, products: Products, rows: Rows, tokens_R: Tensor, adapters: int) -> Tensor:
        """Feed one token to each row: (N, R, H) hidden states after the final norm."""

    def products(self, adapters: Sequence[Adapter], *, mixed: bool) -> Products:
        """Adapters are folded into copies of the weights where that pays: one alone, or several on a small model."""
        copies = len(adapters) * sum(p.weight.nbytes for layer in self.projections for p in layer.values())
        fold = not mixed and copies <= (FOLD_ONE_BYTES if len(adapters) == 1 else FOLD_SEVERAL_BYTES)
        return [
            {name: projection.product(adapters, mixed=mixed, fold=fold) for name, projection in layer.items()}
            for layer in self.projections
        ]


class FusedStepper:
    """One decode of one fused model; see `decoding.stepping.Stepper`."""

    def __init__(
        self,
        fused: FusedModel,
        adapters: Sequence[Adapter],
        prompts: PromptStates,
        first_token: int | None,
        steps: int,
        mix_SM: Tensor | None,
    ) -> None:
        self.fused, self.first_token = fused, first_token
        self.blocks = 1 if mix_SM is not None else max(len(adapters), 1)
        self.products = fused.products(adapters, mixed=mix_SM is not None)
        self.rows = Rows(prompts, steps, mix_SM)

    def first(self) -> Tensor:
        if self.rows.prompts.first_NPH is not None:
            return self.rows.prompts.first_NPH
        assert self.first_token is not None
        return self.step(torch.full_like(self.rows.prompt_R, self.first_token))

    def step(self, tokens_R: Tensor) -> Tensor:
        hidden_NRH = self.fused.step(self.products, self.rows, tokens_R, self.blocks)
        self.rows.length += 1
        return hidden_NRH

    def move(self, moves: Moves) -> None:
        self.rows.move(moves)


def norm_of(module: Any) -> Norm:
    """A normalisation layer of transformers as one fused call."""
    weight = module.weight.detach()
    shape = tuple(weight.shape)
    if isinstance(module, nn.LayerNorm):
        bias, eps = module.bias.detach(), module.eps
        return lambda x: layer_norm(x, shape, weight, bias, eps)
    if weight.dtype == torch.float64:  # transformers takes the variance in float32 even so; comparisons need the same
        return lambda x: module(x)
    epsilon = float(module.variance_epsilon)
    return lambda x: rms_norm(x, shape, weight, epsilon)


def heads(x_NRO: Tensor, count: int) -> Tensor:
    """(N, R, count*D) -> (R, N*count, D): the heads of all adapters side by side."""
    n, r, width = x_NRO.shape
    return x_NRO.view(n, r, count, width // count).transpose(0, 1).reshape(r, n * count, width // count)


def joined(x_RHD: Tensor, adapters: int) -> Tensor:
    """The way back: (R, N*count, D) -> (N, R, count*D)."""
    r, h, d = x_RHD.shape
    return x_RHD.view(r, adapters, h // adapters * d).transpose(0, 1)
