"""What every fused model has in common: transformers reads the prompts, and our own step decodes the tokens.

A step of a few rows takes the overhead of its calls and the time to read the weights once. So the projections of one
input are one product (`projection`), keys and values are kept in blocks (`cache`) and shared (`rows`), and only the
last position is computed. Each of these changes the order of sums at most, so the step equals transformers' own but for
rounding. `decoding.stepping.check_fused` tests that on every model.
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
from emorl_bench.decoding.prefix_tree import Moves
from emorl_bench.models.lora import Adapter, LoraLinear

# The largest copy of weights with one adapter folded in; in a larger model the low-rank form is no slower.
FOLD_ONE_BYTES = 1 << 28
# The same for several adapters: larger copies do not stay in a processor's cache.
FOLD_SEVERAL_BYTES = 1 << 24

Norm = Callable[[Tensor], Tensor]
Products = list[dict[str, Product]]  # by layer, by the name of a projection


class FusedModel(ABC):
    """The decoding step of one base model. It holds no second copy of the weights (`Projection`).

    Args:
        model: a model of transformers.
        layers: its adapter layers by name.
    """

    def __init__(self, model: Any, layers: dict[str, LoraLinear]) -> None:
        """Join the projections of every layer."""
        self.model = model
        self.names = {id(layer): name for name, layer in layers.items()}
        self.projections: list[dict[str, Projection]] = self._projections()

    def _joined(self, *parts: nn.Module) -> Projection:
        return Projection(parts, self.names)

    @abstractmethod
    def _projections(self) -> list[dict[str, Projection]]:
        """For each layer, its products by name."""

    @abstractmethod
    def read(self, ids_PS: Tensor, mask_PS: Tensor, adapters: int) -> PromptStates:
        """Read P prompts once for each of N adapters, which must be active on the model's layers.

        Args:
            ids_PS: token ids, padded as the model's family needs.
            mask_PS: 1 at real tokens.
            adapters: N.
        """

    @abstractmethod
    def step(self, products: Products, rows: Rows, tokens_R: Tensor, adapters: int) -> Tensor:
        """Feed one token to each row.

        Args:
            products: the projections of every layer under the adapters.
            rows: keys and values of the rows; this token's are added.
            tokens_R: the ids.
            adapters: N, the hidden states of a row.

        Returns:
            hidden states (N, R, H) after the final normalisation.
        """

    def products(self, adapters: Sequence[Adapter], *, mixed: bool) -> Products:
        """The products of every layer under these adapters.

        Args:
            adapters: M adapters.
            mixed: each row has its own weighted sum of them. Otherwise an adapter is added to a copy of the weights
                (folded) where that is faster: one adapter, or several on a small model.
        """
        copies = len(adapters) * sum(p.weight.nbytes for layer in self.projections for p in layer.values())
        fold = not mixed and copies <= (FOLD_ONE_BYTES if len(adapters) == 1 else FOLD_SEVERAL_BYTES)
        return [
            {name: projection.product(adapters, mixed=mixed, fold=fold) for name, projection in layer.items()}
            for layer in self.projections
        ]


class FusedStepper:
    """A `decoding.stepping.Stepper` of one fused model.

    Args:
        fused: the step of the model.
        adapters: every row is decoded by each of them, unless there is a mix.
        rows: one row for each prompt that the adapters have read.
        first_token: the token that starts an answer; None for models that continue the prompt.
    """

    def __init__(self, fused: FusedModel, adapters: Sequence[Adapter], rows: Rows, first_token: int | None) -> None:
        """Prepare the products; nothing is decoded yet."""
        self.fused, self.first_token, self.rows = fused, first_token, rows
        self.blocks = 1 if rows.mix_RM is not None else max(len(adapters), 1)
        self.products = fused.products(adapters, mixed=rows.mix_RM is not None)

    def first(self) -> Tensor:
        """See `Stepper.first`; for a decoder-only model the states were found when the prompts were read."""
        if self.rows.prompts.first_NPH is not None:
            return self.rows.prompts.first_NPH
        assert self.first_token is not None
        return self.step(torch.full_like(self.rows.prompt_R, self.first_token))

    def step(self, tokens_R: Tensor) -> Tensor:
        """See `Stepper.step`."""
        hidden_NRH = self.fused.step(self.products, self.rows, tokens_R, self.blocks)
        self.rows.advance()
        return hidden_NRH

    def move(self, moves: Moves) -> None:
        """See `Stepper.move`."""
        self.rows.move(moves)


def norm_of(module: Any) -> Norm:
    """A normalisation layer of transformers (LayerNorm or RMSNorm) as one call of torch."""
    weight = module.weight.detach()
    shape = tuple(weight.shape)
    if isinstance(module, nn.LayerNorm):
        bias, eps = module.bias.detach(), module.eps
        return lambda x: layer_norm(x, shape, weight, bias, eps)
    # In float64 transformers still computes the variance in float32, and comparisons need the same numbers.
    if weight.dtype == torch.float64:
        return lambda x: module(x)
    epsilon = float(module.variance_epsilon)
    return lambda x: rms_norm(x, shape, weight, epsilon)


def heads(x_NRO: Tensor, count: int) -> Tensor:
    """(N, R, count*D) -> (R, N*count, D): the heads of all adapters side by side."""
    n, r, width = x_NRO.shape
    return x_NRO.view(n, r, count, width // count).transpose(0, 1).reshape(r, n * count, width // count)


def joined(x_RHD: Tensor, adapters: int) -> Tensor:
    """The inverse of `heads`: (R, N*count, D) -> (N, R, count*D)."""
    r, h, d = x_RHD.shape
    return x_RHD.view(r, adapters, h // adapters * d).transpose(0, 1)
