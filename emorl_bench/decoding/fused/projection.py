"""Linear layers that read the same input, as one matrix product with the adapters inside it.

Rows of a matrix product are independent, so the joined weight gives each layer's output in its own columns, exactly.
The joined weight becomes the storage, and the weights of the model's own layers become views of it. So there is still
one base model in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from emorl_bench.models.lora import Adapter, LoraLinear


class Product(Protocol):
    """A linear map with adapters: (N, R, in) -> (N, R, out)."""

    def __call__(self, x_NRI: Tensor, mix_RM: Tensor | None) -> Tensor:
        """Apply it to the rows.

        Args:
            x_NRI: the inputs of R rows under N adapters.
            mix_RM: weights of each row for the adapters, for products whose rows mix them (`Mixed`); None for others.
        """


@dataclass(frozen=True)
class Plain:
    """No adapter, or one adapter that has been added to ``weight`` (out, in)."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x_NRI: Tensor, mix_RM: Tensor | None) -> Tensor:
        """``x W^T + b``."""
        return linear(x_NRI, self.weight, self.bias)


@dataclass(frozen=True)
class Folded:
    """N adapters, each for its own block of rows, and each added to its own copy of the weight (N, in, out)."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x_NRI: Tensor, mix_RM: Tensor | None) -> Tensor:
        """``x_n W_n + b`` for each adapter n."""
        y_NRO = torch.bmm(x_NRI, self.weight)
        return y_NRO if self.bias is None else y_NRO.add_(self.bias)


@dataclass(frozen=True)
class Blocks:
    """N adapters, each for its own block of rows, as low-rank products beside one product with the base."""

    weight: Tensor
    bias: Tensor | None
    a_NIQ: Tensor
    b_NQO: Tensor

    def __call__(self, x_NRI: Tensor, mix_RM: Tensor | None) -> Tensor:
        """``x_n W^T + b + (x_n A_n) B_n`` for each adapter n."""
        return linear(x_NRI, self.weight, self.bias).baddbmm_(torch.bmm(x_NRI, self.a_NIQ), self.b_NQO)


@dataclass(frozen=True)
class Mixed:
    """One block of rows in which each row has its own sum of M adapters: ``W x_r + sum_m mix_rm B_m A_m x_r``.

    ``owner_Q`` (Q,) says which adapter each column of ``a_IQ`` belongs to.
    """

    weight: Tensor
    bias: Tensor | None
    a_IQ: Tensor
    b_QO: Tensor
    owner_Q: Tensor

    def __call__(self, x_NRI: Tensor, mix_RM: Tensor | None) -> Tensor:
        """One block (1, R, in) of rows under their own sums of adapters."""
        assert mix_RM is not None
        x_RI = x_NRI[0]
        low_RQ = (x_RI @ self.a_IQ) * mix_RM[:, self.owner_Q]
        return linear(x_RI, self.weight, self.bias).addmm_(low_RQ, self.b_QO)[None]


class Projection:
    """Some linear layers that read one input, their weights joined along the output.

    Args:
        parts: the layers, `LoraLinear` or plain. Their weights become views of the joined one.
        names: the name of an adapter target by the ``id`` of its module. Layers without a name take no adapter.
    """

    def __init__(self, parts: Sequence[nn.Module], names: Mapping[int, str]) -> None:
        """Join the weights."""
        bases: list[Any] = [part.base if isinstance(part, LoraLinear) else part for part in parts]
        self.names = [names.get(id(part)) for part in parts]
        self.sizes = [_weight(base).shape[0] for base in bases]
        self.weight = _join([_weight(base) for base in bases])
        self.bias = None if bases[0].bias is None else torch.cat([base.bias.detach() for base in bases])
        if len(bases) > 1:
            for base, view in zip(bases, self.weight.split(self.sizes), strict=True):
                base.weight.data = view.T if isinstance(base, Conv1D) else view

    def product(self, adapters: Sequence[Adapter], *, mixed: bool, fold: bool) -> Product:
        """The linear map of this projection under some adapters.

        Args:
            adapters: M adapters.
            mixed: each row has its own weighted sum of them. Otherwise each adapter has its own block of rows.
            fold: add the adapters to copies of the weight; not together with ``mixed``.
        """
        if not adapters or not any(self.names):
            return Plain(self.weight, self.bias)
        if fold:
            folded = [self._folded(adapter) for adapter in adapters]
            if len(folded) == 1:
                return Plain(folded[0], self.bias)
            return Folded(torch.stack([weight_OI.T for weight_OI in folded]), self.bias)
        pairs = [self._joined(adapter) for adapter in adapters]
        if not mixed:
            return Blocks(
                self.weight, self.bias, torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
            )
        owner = [torch.full((a.shape[1],), m, device=a.device) for m, (a, _) in enumerate(pairs)]
        a_IQ, b_QO = torch.cat([a for a, _ in pairs], dim=1), torch.cat([b for _, b in pairs])
        return Mixed(self.weight, self.bias, a_IQ, b_QO, torch.cat(owner))

    def _folded(self, adapter: Adapter) -> Tensor:
        deltas = []
        for name, size in zip(self.names, self.sizes, strict=True):
            if name is None:
                deltas.append(torch.zeros(size, self.weight.shape[1], device=self.weight.device))
            else:
                a_RI, b_OR = (factor.detach() for factor in adapter.factors[name])
                exact = torch.promote_types(self.weight.dtype, a_RI.dtype)
                deltas.append(adapter.scale * (b_OR.to(exact) @ a_RI.to(exact)))
        return (self.weight + torch.cat(deltas)).to(self.weight.dtype)

    def _joined(self, adapter: Adapter) -> tuple[Tensor, Tensor]:
        """``A`` (in, Q) and ``scale * B`` (Q, out): the parts' factors side by side, each in its own output columns."""
        a_columns: list[Tensor] = []
        b_OQ: list[Tensor] = []
        for name, size in zip(self.names, self.sizes, strict=True):
            if name is None:
                b_OQ.append(self.weight.new_zeros(size, 0))
                continue
            a_RI, b_OR = (factor.detach().to(self.weight.dtype) for factor in adapter.factors[name])
            a_columns.append(a_RI.T)
            b_OQ.append(adapter.scale * b_OR)
        return torch.cat(a_columns, dim=1), torch.block_diag(*b_OQ).T.contiguous()


def _weight(base: Any) -> Tensor:
    """The weight of a layer as (out, in)."""
    weight: Tensor = base.weight.detach()
    return weight.T if isinstance(base, Conv1D) else weight


def _join(weights: Sequence[Tensor]) -> Tensor:
    """One (out, in) weight. Weights that an earlier decoder of this model has joined are not copied again."""
    first = weights[0]
    starts = [first.data_ptr() + sum(w.nbytes for w in weights[:i]) for i in range(len(weights))]
    adjacent = all(w.is_contiguous() and w.data_ptr() == at for w, at in zip(weights, starts, strict=True))
    one_storage = len({w.untyped_storage().data_ptr() for w in weights}) == 1
    if adjacent and one_storage:
        return first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride())
    return first if len(weights) == 1 else torch.cat(list(weights))
