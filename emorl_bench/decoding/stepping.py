"""One step of a decode, from a token to the next hidden state: by a fused model, or by transformers' own modules.

The decode loop does not know which of the two it uses. Rows are those of `prefix_tree`; all N adapters decode each row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.memory import LARGEST
from emorl_bench.decoding.blend_cache import BlendCache
from emorl_bench.decoding.fused.engine import FusedModel, FusedStepper
from emorl_bench.decoding.fused.registry import fused_model, unfused_because
from emorl_bench.decoding.fused.rows import PromptStates, Rows, moved
from emorl_bench.decoding.fused.static import StaticRows, StaticStepper
from emorl_bench.decoding.graphs import Record
from emorl_bench.decoding.layer_averaging import LayerAveraging, averaging_in
from emorl_bench.decoding.prefix_tree import Moves
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, RowMix, active

READ_TOGETHER = 8  # prompts that a CPU reads in one pass if they fit: more of them need more padding, and are no faster
STEP = 2.5  # the error of one layer, in units of the distance of 1 to the next number
TF32_EPS = 2.0**-10  # that distance in TF32
PROBE = (3, 5, 4)  # ids of the tokens on which the fused step is compared with the model's own modules


class Stepper(Protocol):
    """The model's side of a running decode. It begins with one row for each prompt."""

    def first(self) -> Tensor:
        """(N, P, H) hidden states that the first tokens are read from."""

    def step(self, tokens_R: Tensor) -> Tensor:
        """Feed one token to each row: ids (R,) -> hidden states (N, R, H)."""

    def move(self, moves: Moves) -> None:
        """Copy and drop rows, before the next step."""


@dataclass(frozen=True)
class Start:
    """How a decode of P prompts begins.

    Attributes:
        prompts: their token ids.
        adapters: every row is decoded by each of them, unless there is a mix.
        mix_PM: each row is decoded by its own weighted sum of the adapters instead.
        steps: the largest number of tokens of an answer.
        averaging: where the adapters' rows are averaged inside the decoder, if they are; never together with a mix.
        block_bytes: what a pass that reads prompts may make in a layer (`models.shape`).
    """

    prompts: Sequence[Sequence[int]]
    adapters: Sequence[Adapter]
    mix_PM: Tensor | None
    steps: int
    averaging: LayerAveraging | None = None
    block_bytes: int = LARGEST

    @property
    def blocks(self) -> int:
        """N: how many hidden states a row has."""
        return 1 if self.mix_PM is not None else max(len(self.adapters), 1)


@contextmanager
def stepping(
    backbone: Backbone, fused: FusedModel | None, start: Start, blend_cache: BlendCache | None
) -> Iterator[Stepper]:
    """Read the prompts, unless ``blend_cache`` holds them, and give a `Stepper` that is ready for the first token."""
    mix = None if start.mix_PM is None else RowMix(start.mix_PM)
    if fused is None or start.averaging is not None:
        of_rows = mix if start.averaging is None else start.averaging.mix
        with active(backbone.layers, start.adapters, mix), averaging_in(backbone.model, start.averaging):
            yield ModuleStepper(backbone, start.prompts, start.blocks, of_rows)
        return
    rows = Rows(_states(backbone, fused, start, blend_cache), start.steps, start.mix_PM)
    yield FusedStepper(fused, start.adapters, rows, backbone.first_token)


def static_stepper(
    backbone: Backbone, fused: FusedModel, start: Start, blend_cache: BlendCache | None, record: Record | None
) -> StaticStepper:
    """The same for a decode on static rows; ``record`` makes graphs of its steps."""
    rows = StaticRows(_states(backbone, fused, start, blend_cache), start.steps, start.mix_PM)
    return StaticStepper(fused, start.adapters, rows, backbone.first_token, record)


def _states(backbone: Backbone, fused: FusedModel, start: Start, blend_cache: BlendCache | None) -> PromptStates:
    """What the adapters have read of the prompts, now or before."""
    states = blend_cache.states(start.prompts) if blend_cache else None
    if states is None:
        states = _read(backbone, fused, start)
        if blend_cache:
            blend_cache.keep(start.prompts, states)
    return states


def _read(backbone: Backbone, fused: FusedModel, start: Start) -> PromptStates:
    like, parts = _of_like_length(start.prompts, groups(backbone, start)), []
    for group in like:
        mix = None if start.mix_PM is None else RowMix(start.mix_PM[group.to(backbone.device)])
        padded = backbone.padded_prompts([start.prompts[i] for i in group.tolist()])
        with active(backbone.layers, start.adapters, mix):
            parts.append(fused.read(*padded, start.blocks))
    return parts[0] if len(parts) == 1 else PromptStates.assembled(parts, [g.to(backbone.device) for g in like])


def groups(backbone: Backbone, start: Start) -> int:
    """How many groups the prompts are read in: as few as the budget allows, but on a CPU `READ_TOGETHER` at a time."""
    fewest, prompts = 1, len(start.prompts)
    if (shape := backbone.shape) is not None:
        row = backbone.dtype.itemsize * start.blocks * shape.passing * max(map(len, start.prompts))
        fewest = math.ceil(prompts / max(1, start.block_bytes // row))
    return max(fewest, prompts // READ_TOGETHER) if backbone.device.type == "cpu" else fewest


def _of_like_length(prompts: Sequence[Sequence[int]], groups: int) -> Sequence[Tensor]:
    """Indices of prompts in groups of similar length, which need little padding."""
    if groups < 2:
        return [torch.arange(len(prompts))]
    return torch.tensor(sorted(range(len(prompts)), key=lambda i: len(prompts[i]))).chunk(groups)


class ModuleStepper:
    """A `Stepper` for any model of transformers, through its own modules and cache.

    Args:
        backbone: the base model; its adapters must be active.
        prompts: token ids of P prompts.
        blocks: N, the hidden states of a row.
        mix: the weights that belong to rows, if there are any; they are moved with the rows.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[Sequence[int]], blocks: int, mix: RowMix | None) -> None:
        """Read the prompts."""
        self.backbone, self.blocks, self.mix = backbone, blocks, mix
        self.state, self._first = backbone.start(prompts, blocks)

    def first(self) -> Tensor:
        """See `Stepper.first`."""
        return self._by_block(self._first)

    def step(self, tokens_R: Tensor) -> Tensor:
        """See `Stepper.step`."""
        return self._by_block(self.backbone.step(self.state, tokens_R.repeat(self.blocks)))

    def move(self, moves: Moves) -> None:
        """See `Stepper.move`; transformers' cache is copied as a whole."""
        if self.mix is not None:
            self.mix.weights_RM = moved(self.mix.weights_RM, moves)
        before = len(self.state.mask_RS) // self.blocks
        rows = moved(torch.arange(before, device=self.backbone.device), moves)
        blocks = torch.arange(self.blocks, device=rows.device)[:, None] * before
        self.state = self.backbone.select(self.state, (blocks + rows).flatten())

    def _by_block(self, hidden: Tensor) -> Tensor:
        return hidden.view(self.blocks, -1, hidden.shape[-1])


def find_fused(backbone: Backbone) -> FusedModel | None:
    """The fused step for this backbone's model, or None where decoding goes through the model's own modules.

    None for an architecture without a fused step, for a sharded or a quantised base (the fused step reads whole
    weights), and for a model on which `check_fused` finds that the two differ. But for the sharded base, a line on
    stderr says so.
    """
    if backbone.sharded:
        return None
    if backbone.packed:
        _say(backbone, "its weights are quantised")
        return None
    fused = fused_model(backbone.model, backbone.layers)
    if fused is None:
        _say(backbone, unfused_because(backbone.model.config))
        return None
    return fused if check_fused(backbone, fused) else None


def _say(backbone: Backbone, why: str | None) -> None:
    kind = backbone.model.config.model_type
    print(f"model '{kind}': decoded by its own modules, slower; {why}", file=sys.stderr, flush=True)


@torch.no_grad()
def check_fused(backbone: Backbone, fused: FusedModel) -> bool:
    """Whether the fused step gives the hidden states of the model's own modules on a few tokens, in every row.

    They differ on a model that deviates from its architecture in a way which the fused step does not know. A line on
    stderr says so then.
    """
    start = Start([backbone.prompt_ids("a b c"), backbone.prompt_ids("a")], (), None, steps=len(PROBE) + 1)
    fused_NRH, own_NRH = (_probed(backbone, way, start).double() for way in (fused, None))
    error_NR = (fused_NRH - own_NRH).norm(dim=-1) / own_NRH.norm(dim=-1)
    if error_NR.max() <= rounding(backbone, len(fused.projections)):
        return True
    _say(backbone, "the fused step differs from them")
    return False


def rounding(backbone: Backbone, layers: int) -> float:
    """The largest error of a row of hidden states, relative to its norm, that rounding can explain.

    Layers round independently of one another, so their errors add up like the steps of a random walk. Measured in
    bfloat16: .05 in SmolLM2-135M with its 30 layers, where this gives .11; a layer without its attention makes .13 to
    .86, one without its feed-forward part .22 to 1.29.
    """
    if backbone.dtype in (torch.bfloat16, torch.float16):
        return STEP * torch.finfo(backbone.dtype).eps * layers**0.5
    if backbone.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        return STEP * TF32_EPS * layers**0.5
    return 1e-3


def _probed(backbone: Backbone, fused: FusedModel | None, start: Start) -> Tensor:
    """Hidden states of the first token and after each token of ``PROBE``."""
    with stepping(backbone, fused, start, None) as stepper:
        states = [stepper.first()]
        for token in PROBE:
            states.append(stepper.step(torch.full((len(start.prompts),), token, device=backbone.device)))
    return torch.cat(states)
