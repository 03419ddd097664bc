"""Gradient checkpointing: a block keeps only its input, and the backward pass runs the block again for the rest.

It saves memory and costs a second forward pass (Chen et al. 1604.06174). transformers' own switch does not serve here.
It also turns on a block's dropout, and when the backward pass comes, `lora.active` has switched the adapters off, so
the base without adapters would be recomputed. Here a block is run again with the adapters of the first time, and with
the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from emorl_bench.core.errors import UserError
from emorl_bench.models.lora import LoraLinear, LowRankUpdate


def checkpoint_blocks(model: Any) -> None:
    """Have every block of a model of transformers run again in backward passes; changes the model in place.

    Passes without gradients stay as they were. A pass with gradients must use no cache, because a block would write to
    it twice.

    Raises:
        UserError: the model does not say what its blocks are.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise UserError(
            f"model.gradient_checkpointing=true: a {model.config.model_type} does not say what its blocks are; "
            "use model.gradient_checkpointing=false"
        )
    for block in blocks:  # only `forward`: the hooks that gather a sharded block still run once in a pass
        layers = [module for module in block.modules() if isinstance(module, LoraLinear)]
        block.forward = partial(_recomputed, block.forward, layers)


def _recomputed(forward: Callable[..., Any], layers: Sequence[LoraLinear], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    updates = [layer.update for layer in layers]

    def run(*args: Any) -> Any:
        with _switched(layers, updates):
            return forward(*args, **kwargs)

    return checkpoint(run, *args, use_reentrant=False)


@contextmanager
def _switched(layers: Sequence[LoraLinear], updates: Sequence[LowRankUpdate | None]) -> Iterator[None]:
    before = [layer.update for layer in layers]
    try:
        for layer, update in zip(layers, updates, strict=True):
            layer.update = update
        yield
    finally:  # torch ends the second run by an exception as soon as it has what it needs
        for layer, update in zip(layers, before, strict=True):
            layer.update = update
