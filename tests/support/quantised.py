"""Models with packed weights beside plain models that hold the same numbers; quantised by the papers' formulas."""

from __future__ import annotations

import copy
from typing import Any

import torch
from support.families import SHAPE, family
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from emorl_bench.models.quantised import QuantisedLinear, eight_bits

# NF4 of QLoRA (2305.14314, appendix E): quantiles of a normal distribution, scaled to [-1, 1]
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
BLOCK = 64
WIDE = {**SHAPE, "hidden_size": 64, "intermediate_size": 128}  # 4 bits are in blocks of 64 weights


def wide_llama() -> Any:
    return family(lambda: LlamaForCausalLM(LlamaConfig(**WIDE)))


def four_bit_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A code for each weight, and the largest weight of each block."""
    blocks = weight.double().reshape(-1, BLOCK)
    scales = blocks.abs().amax(1)
    table = torch.tensor(NF4, dtype=torch.float64)
    codes = (blocks[..., None] / scales[:, None, None] - table).abs().argmin(-1)
    return codes.reshape(weight.shape), scales.float()


def four_bit_values(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """One code in a byte, and in the model's own type: the stand-in for bitsandbytes."""
    table = torch.tensor(NF4, dtype=torch.float64)
    return (table[codes.long()].reshape(-1, BLOCK) * scales[:, None].double()).reshape(codes.shape).to(dtype)


def eight_bit_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.double().abs().amax(1)
    return (weight.double() * 127 / scales[:, None]).round().to(torch.int8), scales.float()


def standing_in(model: Any, kind: str) -> tuple[Any, Any]:
    """(quantised, plain) copies of a model: packed without bitsandbytes, and with the numbers they stand for."""
    quantised, plain, dtype = copy.deepcopy(model), copy.deepcopy(model), model.dtype
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or layer is model.get_output_embeddings():
            continue
        codes, scales = (four_bit_codes if kind == "4bit" else eight_bit_codes)(layer.weight.detach())
        unpack = four_bit_values if kind == "4bit" else eight_bits
        sizes = (layer.out_features, layer.in_features)
        packed = QuantisedLinear(codes.to(torch.uint8) if kind == "4bit" else codes, scales, None, sizes, dtype, unpack)
        parent, _, leaf = name.rpartition(".")
        setattr(quantised.get_submodule(parent), leaf, packed)
        plain.get_submodule(name).weight.data = packed.unpacked(dtype)
    return quantised, plain
