"""The base model as transformers knows it, without our adapters' layers, for a library that brings its own.

The weights are those of the backbone itself, not a second set of them; modules and configuration are copies, so that
whatever the library does to them stays there.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

from torch import nn
from transformers import GenerationConfig

from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import positions
from emorl_bench.models.lora import LoraLinear


def unadapted(backbone: Backbone) -> Any:
    """A model of transformers on the backbone's own weights, with its end tokens.

    A backbone is never in training mode, where a checkpoint's own dropout would be on; this model has none to turn on.
    """
    shared = {id(tensor): tensor for tensor in chain(backbone.model.parameters(), backbone.model.buffers())}
    model = copy.deepcopy(backbone.model, shared)
    for name in backbone.layers:
        layer = model.get_submodule(name)
        assert isinstance(layer, LoraLinear)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ends = [backbone.eos, *backbone.other_ends]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=backbone.pad)
    return model


def count_positions(model: Any) -> None:
    """Have a decoder-only model count the positions of prompts padded on the left, in place, where it is not told them.

    A model that is given a mask alone counts the padding too, so a short prompt would be read at other positions in a
    batch than alone: learnt positions (GPT-2) make that another distribution.
    """
    getattr(model, model.base_model_prefix).register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    ids, mask = named.get("input_ids"), named.get("attention_mask")
    if ids is not None and mask is not None and named.get("position_ids") is None and ids.shape == mask.shape:
        named["position_ids"] = positions(mask)  # shapes differ where a cached text goes on
    return given, named
