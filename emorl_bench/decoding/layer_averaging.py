"""Adapters that meet inside the decoder: their rows are averaged after one of its blocks, and not only at the head.

A hook in front of the next block gives every adapter's row the weighted mean of all of them; from there each goes on
with its own weights and its own keys and values. So no step is cut in two, and any model of transformers will do whose
blocks are marked as such. What a row holds above the meeting depends on who weighs it: rows are shared by samples of
one prompt under one weight vector, never by two weight vectors.
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
class Meeting:
    """After ``layer`` of the decoder's blocks, where others follow. ``mix``: how each row weighs the adapters."""

    layer: int
    mix: RowMix


def decoder_blocks(model: Any) -> list[nn.Module]:
    """The blocks of a model's decoder, in their order.

    Raises:
        UserError: the model does not say what they are.
    """
    blocks = [m for m in model.get_decoder().modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks:
        raise UserError(
            f"method.aggregator: a {model.config.model_type} does not say what its blocks are, so experts cannot meet "
            "between them; use method=emorl"
        )
    return blocks


@contextmanager
def meeting_in(model: Any, meeting: Meeting | None) -> Iterator[None]:
    """Let the rows of all passes inside meet."""
    if meeting is None:
        yield
        return

    def meet(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (averaged(given[0], meeting.mix.weights_RM), *given[1:])

    handle = decoder_blocks(model)[meeting.layer].register_forward_pre_hook(meet)
    try:
        yield
    finally:
        handle.remove()


def averaged(hidden: Tensor, weights_RM: Tensor) -> Tensor:
    """(M*R, T, H), the R rows of each of M adapters -> the same shape, every adapter's row the mean of all."""
    exact = torch.promote_types(hidden.dtype, torch.float32)  # of bfloat16 weights the sum would not be 1
    rows_MRTH = hidden.unflatten(0, (-1, len(weights_RM)))
    mean_RTH = (rows_MRTH.to(exact) * weights_RM.T.to(exact)[:, :, None, None]).sum(0).to(hidden.dtype)
    return mean_RTH.expand_as(rows_MRTH).flatten(0, 1)
