"""The base model as transformers knows it, without our adapter layers, for a library that brings its own.

The weights are those of the backbone itself, not a second copy. Modules and configuration are copies, so that the
library can change them without changing ours.
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
    """A model of transformers on the backbone's own weights, with the backbone's end tokens.

    A backbone is never in training mode, so dropout of the checkpoint is never on. The model that is returned is
    trained, so its dropout is set to 0.
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
    """Let a decoder-only model count positions from the first real token of prompts padded on the left, in place.

    A model that is given only a mask also counts the padding. A short prompt would then have other positions in a batch
    than alone. With learnt positions (GPT-2) that is another distribution.
    """
    getattr(model, model.base_model_prefix).register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    ids, mask = named.get("input_ids"), named.get("attention_mask")
    if ids is not None and mask is not None and named.get("position_ids") is None and ids.shape == mask.shape:
        named["position_ids"] = positions(mask)  # shapes differ when a cached text is continued
    return given, named
