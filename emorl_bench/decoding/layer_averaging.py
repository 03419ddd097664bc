"""Averaging of adapters inside the decoder: after one of its blocks the adapters' hidden states are averaged.

A hook in front of the next block replaces every adapter's hidden state by the weighted mean of all of them. From there
on each adapter continues with its own weights, keys and values. So a step need not be divided in two, and any model of
transformers can be used whose blocks are marked as such. Above the average a row's states depend on its weights. So
samples of one prompt under one weight vector share rows, and two weight vectors never do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from emorl_bench.core.errors import UserError
from emorl_bench.models.lora import RowMix


@dataclass(frozen=True)
class LayerAveraging:
    """The average is taken after ``layer`` of the decoder's blocks; at least one follows.

    ``mix`` holds the weights of each row for the adapters.
    """

    layer: int
    mix: RowMix


def decoder_blocks(model: Any) -> list[nn.Module]:
    """The blocks of a model's decoder, in order.

    Raises:
        UserError: the model does not mark its blocks.
    """
    blocks = [m for m in model.get_decoder().modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks:
        raise UserError(
            f"method.aggregator: a {model.config.model_type} does not say what its blocks are, so experts cannot be "
            "averaged between them; use method=emorl"
        )
    return blocks


@contextmanager
def averaging_in(model: Any, averaging: LayerAveraging | None) -> Iterator[None]:
    """Average the rows of all forward passes inside this context; None changes nothing."""
    if averaging is None:
        yield
        return

    def average(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (averaged(given[0], averaging.mix.weights_RM), *given[1:])

    handle = decoder_blocks(model)[averaging.layer].register_forward_pre_hook(average)
    try:
        yield
    finally:
        handle.remove()


def averaged(hidden: Tensor, weights_RM: Tensor) -> Tensor:
    """Replace each adapter's hidden states by the weighted mean over adapters: (M*R, T, H) -> (M*R, T, H).

    Rows are adapter-major; ``weights_RM`` are the weights of each of the R rows.
    """
    exact = torch.promote_types(hidden.dtype, torch.float32)  # weights rounded to bfloat16 would not sum to 1
    rows_MRTH = hidden.unflatten(0, (-1, len(weights_RM)))
    mean_RTH = (rows_MRTH.to(exact) * weights_RM.T.to(exact)[:, :, None, None]).sum(0).to(hidden.dtype)
    return mean_RTH.expand_as(rows_MRTH).flatten(0, 1)
