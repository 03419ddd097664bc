"""How one decode goes on from token to token: through a fused model where there is one, else through transformers' own.

The decode loop does not know which. Rows are those of `prefix_tree`: each is decoded by all N adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.models.backbone import Backbone
from emorl_bench.decoding.fused.engine import FusedModel, FusedStepper
from emorl_bench.decoding.fused.rows import PromptStates, moved
from emorl_bench.models.lora import Adapter, RowMix, active
from emorl_bench.decoding.layer_averaging import Meeting, meeting_in
from emorl_bench.decoding.blend_cache import BlendMemory
from emorl_bench.decoding.prefix_tree import Moves

READ_TOGETHER = 8  # prompts at least, where there are so many


class Stepper(Protocol):
    """A decode in flight, at first with one row for each prompt."""

    def first(self) -> Tensor: ...  # (N, P, H) hidden states that the first tokens are read from
    def step(self, tokens_R: Tensor) -> Tensor: ...  # feed each row a token -> (N, R, H)
    def move(self, moves: Moves) -> None: ...


@dataclass(frozen=True)
class Start:
    """P prompts about to be decoded by some adapters: each row by all of them, or, with a mix, by its own sum."""

    prompts: Sequence[Sequence[int]]
    adapters: Sequence[Adapter]
    mix_PM: Tensor | None
    steps: int  # tokens there can be
    meeting: Meeting | None = None  # of the adapters inside the decoder; never with a mix

    @property
    def blocks(self) -> int:
        return 1 if self.mix_PM is not None else max(len(self.adapters), 1)


@contextmanager
def stepping(backbone: Backbone, start: Start, memory: BlendMemory | None) -> Iterator[Stepper]:
    """Read the prompts, unless ``memory`` holds them, and stand ready for the first token."""
    mix = None if start.mix_PM is None else RowMix(start.mix_PM)
    if backbone.fused is None or start.meeting is not None:
        of_rows = mix if start.meeting is None else start.meeting.mix
        with active(backbone.layers, start.adapters, mix), meeting_in(backbone.model, start.meeting):
            yield ModuleStepper(backbone, start.prompts, start.blocks, of_rows)
        return
    states = memory.states(start.prompts) if memory else None
    if states is None:
        states = _read(backbone, backbone.fused, start)
        if memory:
            memory.keep(start.prompts, states)
    yield FusedStepper(backbone.fused, start.adapters, states, backbone.first_token, start.steps, start.mix_PM)


def _read(backbone: Backbone, fused: FusedModel, start: Start) -> PromptStates:
    groups, parts = _of_like_length(start.prompts), []
    for group in groups:
        mix = None if start.mix_PM is None else RowMix(start.mix_PM[group.to(backbone.device)])
        padded = backbone.padded_prompts([start.prompts[i] for i in group.tolist()])
        with active(backbone.layers, start.adapters, mix):
            parts.append(fused.read(*padded, start.blocks))
    return parts[0] if len(parts) == 1 else PromptStates.assembled(parts, [g.to(backbone.device) for g in groups])


def _of_like_length(prompts: Sequence[Sequence[int]]) -> Sequence[Tensor]:
    """Groups of prompts, so that little is spent on padding; a few prompts are one group, in their order."""
    count = len(prompts) // READ_TOGETHER
    if count < 2:
        return [torch.arange(len(prompts))]
    return torch.tensor(sorted(range(len(prompts)), key=lambda i: len(prompts[i]))).chunk(count)


class ModuleStepper:
    """Any model of transformers, through its own modules and cache. ``mix``: weights that belong to rows, if any do."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Sequence[int]], blocks: int, mix: RowMix | None) -> None:
        self.backbone, self.blocks, self.mix = backbone, blocks, mix
        self.state, self._first = backbone.start(prompts, blocks)

    def first(self) -> Tensor:
        return self._by_block(self._first)

    def step(self, tokens_R: Tensor) -> Tensor:
        return self._by_block(self.backbone.step(self.state, tokens_R.repeat(self.blocks)))

    def move(self, moves: Moves) -> None:
        if self.mix is not None:
            self.mix.weights_RM = moved(self.mix.weights_RM, moves)
        before = len(self.state.mask_RS) // self.blocks
        rows = moved(torch.arange(before, device=self.backbone.device), moves)
        blocks = torch.arange(self.blocks, device=rows.device)[:, None] * before
        self.state = self.backbone.select(self.state, (blocks + rows).flatten())

    def _by_block(self, hidden: Tensor) -> Tensor:
        return hidden.view(self.blocks, -1, hidden.shape[-1])
