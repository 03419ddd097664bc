"""Linear layers whose frozen weights are kept in 4 or 8 bits, and unpacked for every product.

bitsandbytes quantises while a checkpoint is read: 4 bits are NF4 in blocks of 64 weights (QLoRA, 2305.14314), 8 bits
are whole numbers with one scale for each output (LLM.int8, 2208.07339). Its own layers are then replaced by
`QuantisedLinear`, for three reasons. On a CPU with bfloat16 instructions a 4-bit layer in evaluation mode packs its
weights a second time, and has no gradient after that. LLM.int8, and 4 bits on such a CPU, also round activations, so a
sampler and a training pass would disagree. And their scales are no parameters, so a hash of the parameters misses them.

Here sampling and training multiply by the same numbers, those of a plain layer with the unpacked weight. Only the
weights are rounded. The backward pass unpacks them again, so nothing of their size is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig

from emorl_bench.core.errors import UserError

LARGEST_CODE = 127  # of 8 bits, whose scale is the largest weight of an output

Unpack = Callable[[Tensor, Tensor, torch.dtype], Tensor]
"""From codes and scales to the weight (out, in) in a floating-point type."""


class QuantisedLinear(nn.Module):
    """A frozen linear layer with a packed weight.

    Args:
        codes: whole numbers, packed as ``unpack`` expects them.
        scales: float32; what they scale is known to ``unpack``.
        bias: (out,) or None.
        sizes: (out, in), the shape of the unpacked weight.
        dtype: the floating-point type of the model around it.
        unpack: gives the weight.
    """

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        sizes: tuple[int, int],
        dtype: torch.dtype,
        unpack: Unpack,
    ) -> None:
        """Keep codes and scales as parameters without gradients."""
        super().__init__()
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.out_features, self.in_features = sizes
        self.dtype = dtype
        self._unpack = unpack

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """(out, in) the numbers that every product is made with."""
        with torch.no_grad():
            return self._unpack(self.weight.detach(), self.scales.detach(), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if torch.is_grad_enabled() and x.requires_grad:
            product: Tensor = _Product.apply(x, self)
            return product
        return linear(x, self.unpacked(x.dtype), self.bias)


class _Product(torch.autograd.Function):
    """The product with the unpacked weight, which is forgotten after it and unpacked again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.unpacked(x.dtype), layer.bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope @ ctx.layer.unpacked(slope.dtype), None


@dataclass(frozen=True)
class FourBits:
    """Unpacks NF4: two weights of a row in a byte, ``block`` weights to a scale, by the kernels of bitsandbytes."""

    sizes: tuple[int, int]
    block: int

    def __call__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Unpack`."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        shape = torch.Size(self.sizes)
        state = QuantState(absmax=scales, shape=shape, dtype=dtype, blocksize=self.block, quant_type="nf4")
        return dequantize_4bit(codes, state)


def eight_bits(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Unpack 8 bits: codes (out, in) times the scale (out,) of their output over 127, rounded once."""
    found = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    return torch.mul(codes, scales[:, None] / LARGEST_CODE, out=found)


def reading(kind: str, device: torch.device) -> dict[str, Any]:
    """Options of ``from_pretrained`` that have linear layers but the head quantised on ``device`` as they are read.

    Args:
        kind: ``4bit`` or ``8bit``.
        device: where they are put.
    """
    if kind == "8bit":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    if device.type == "cuda" and device.index is None:  # accelerate places weights on a device with a number
        device = torch.device("cuda", torch.cuda.current_device())
    return {"quantization_config": settings, "device_map": {"": device}}


def check_plain(config: Any, path: str) -> None:
    """Refuse a checkpoint that holds packed weights: their format may be any, and what they round is unknown here.

    Raises:
        UserError: names the checkpoint and the way it was quantised.
    """
    if (given := getattr(config, "quantization_config", None)) is None:
        return
    how = given.get("quant_method", "unknown") if isinstance(given, dict) else type(given).__name__
    raise UserError(
        f"model.path={path}: its weights are quantised already ({how}); "
        "give the model it was made from, with model.quantisation=4bit or 8bit"
    )


def replace_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Put a `QuantisedLinear` in the place of every layer of bitsandbytes, in place."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for name, module in list(model.named_modules()):
        if isinstance(module, Linear4bit | Linear8bitLt):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, _replaced(module, dtype))


def _replaced(layer: Any, dtype: torch.dtype) -> QuantisedLinear:
    sizes, weight = (layer.out_features, layer.in_features), layer.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        unpack: Unpack = FourBits(sizes, state.blocksize)
        return QuantisedLinear(weight.data, state.absmax, layer.bias, sizes, dtype, unpack)
    return QuantisedLinear(weight.data, weight.SCB, layer.bias, sizes, dtype, eight_bits)
