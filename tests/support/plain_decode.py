"""The slow way, as an oracle: one dense copy of the model for each expert, one prompt and one weight vector at a time,
everything recomputed for every token, no cache, no padding, no sharing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from conftest import tiny_model
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.adapter_policy import AdapterPolicy


@dataclass(frozen=True)
class Plain:
    """What one blend says to one prompt, and by how much its most doubtful token won."""

    ids: list[int]
    margin: float


def dense_copies(architecture: str, experts: Sequence[AdapterPolicy], dtype: torch.dtype) -> list[Any]:
    """The model of `make_bank`, once for each expert, its update added to the weights."""
    base = tiny_model(architecture).to(dtype).eval()
    copies = [copy.deepcopy(base) for _ in experts]
    for model, expert in zip(copies, experts, strict=True):
        modules = dict(model.named_modules())
        for name, (a, b) in expert.own.factors.items():
            delta = (expert.own.scale * b @ a).detach().to(dtype)
            layer = modules[name]
            layer.weight.data += delta.T if isinstance(layer, Conv1D) else delta
    return copies


@torch.no_grad()
def plain_blend(models: Sequence[Any], backbone: Backbone, text: str, weights: Tensor, steps: int) -> Plain:
    prompt, said, margin = backbone.prompt_ids(text), [], float("inf")
    while len(said) < steps:
        logits = sum(w * _logits(model, prompt, said) for w, model in zip(weights.tolist(), models, strict=True))
        top = logits.topk(2).values
        margin = min(margin, float(top[0] - top[1]))
        said.append(int(logits.argmax()))
        if said[-1] == backbone.eos:
            break
    return Plain(said, margin)


def _logits(model: Any, prompt: list[int], said: list[int]) -> Tensor:
    """The head is linear, so weighing logits is weighing last hidden states."""
    if model.config.is_encoder_decoder:
        start = torch.tensor([[model.config.decoder_start_token_id, *said]])
        return model(input_ids=torch.tensor([prompt]), decoder_input_ids=start, use_cache=False).logits[0, -1]
    return model(input_ids=torch.tensor([[*prompt, *said]]), use_cache=False).logits[0, -1]
