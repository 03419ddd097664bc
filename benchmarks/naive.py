"""The published procedure as a plain loop, in our own code: the other side of every ratio.

Each expert is a full model with its adapter merged in. At each step every expert reads the prompt again, then the whole
prefix again, and projects every position to the vocabulary. The last hidden states are averaged, and head and argmax
choose one token. Weight vectors are decoded one at a time. There is no cache and no shared encoder, and no finished row
is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from benchmarks.models import Setting
from benchmarks.timing import seconds_of

NODES = 5  # prefix lengths at which a step is timed
METHOD = (
    "one step timed at prefix lengths {lengths}, integrated over {tokens} steps by the trapezoid rule; "
    "under torch.no_grad (the release left autograd on)"
)


@dataclass(frozen=True)
class Naive:
    """Merged copies of the experts of one setting, and one batch of prompts for them.

    Attributes:
        models: one full model for each expert.
        prompt_BS: the token ids of the prompts.
        mask_BS: 1 at real tokens.
        new_tokens: the tokens of each answer.
        start: the decoder's first token; None for a causal model.
    """

    models: Sequence[Any]
    prompt_BS: Tensor
    mask_BS: Tensor
    new_tokens: int
    start: int | None

    def step(self, weights_M: Sequence[float], prefix_BT: Tensor) -> Tensor:
        """The next token (B,) after the tokens (B, T) said so far."""
        hidden_BTH: Tensor | None = None
        for model, weight in zip(self.models, weights_M, strict=True):
            state_BTH = self._last_hidden(model, prefix_BT) * weight
            hidden_BTH = state_BTH if hidden_BTH is None else hidden_BTH + state_BTH
        assert hidden_BTH is not None
        # Of the blend only the last position is projected here, which is kind to this side.
        logits_BV: Tensor = self.models[0].get_output_embeddings()(hidden_BTH[:, -1])
        return logits_BV.argmax(-1)

    def _last_hidden(self, model: Any, prefix_BT: Tensor) -> Tensor:
        options = {"output_hidden_states": True, "use_cache": False}
        if self.start is not None:
            first_B1 = torch.full_like(self.mask_BS[:, :1], self.start)
            decoder_BT = torch.cat([first_B1, prefix_BT], dim=1)
            out = model(input_ids=self.prompt_BS, attention_mask=self.mask_BS, decoder_input_ids=decoder_BT, **options)
            hidden: Tensor = out.decoder_hidden_states[-1]
            return hidden
        mask_BT = torch.cat([self.mask_BS, torch.ones_like(prefix_BT)], dim=1)
        positions_BT = (mask_BT.cumsum(1) - 1).clamp_min(0)
        ids_BT = torch.cat([self.prompt_BS, prefix_BT], dim=1)
        out = model(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, **options)
        last: Tensor = out.hidden_states[-1]
        return last

    @torch.no_grad()
    def decode(self, weights_M: Sequence[float]) -> Tensor:
        """Greedy tokens (B, T) by the whole loop."""
        ids_BT = self.prompt_BS[:, :0]
        for _ in range(self.new_tokens):
            ids_BT = torch.cat([ids_BT, self.step(weights_M, ids_BT)[:, None]], dim=1)
        return ids_BT

    @property
    def lengths(self) -> list[int]:
        """Prefix lengths from the first step's to the last's."""
        return sorted({round(x) for x in np.linspace(1, self.new_tokens, min(NODES, self.new_tokens))})

    @property
    def method(self) -> str:
        """How `seconds` measures, in words."""
        return METHOD.format(lengths=self.lengths, tokens=self.new_tokens)

    def seconds(self, weights_M: Sequence[float], *, autograd: bool = False) -> float:
        """The seconds of one whole decode, from steps at a few prefix lengths (`method`)."""
        words_BT = self.prompt_BS[:, :1].expand(-1, self.new_tokens)  # any words take the same time
        measured = []
        for length in self.lengths:
            with torch.set_grad_enabled(autograd):
                measured.append(seconds_of(self._a_step(weights_M, words_BT[:, : length - 1]), self.prompt_BS.device))
        every = np.arange(1, self.new_tokens + 1)
        return float(np.interp(every, self.lengths, measured).sum())

    def _a_step(self, weights_M: Sequence[float], prefix_BT: Tensor) -> Callable[[], object]:
        return lambda: self.step(weights_M, prefix_BT)


def naive(setting: Setting) -> Naive:
    """The naive side of a setting, on one batch of its prompts."""
    examples = setting.prompts()
    copies = [merged_copy(setting, policy.adapter()) for policy in setting.experts]
    seq2seq = setting.backbone.family == "seq2seq"
    prompt_BS, mask_BS = padded(setting, [setting.backbone.prompt_ids(e.context) for e in examples], left=not seq2seq)
    start = int(copies[0].config.decoder_start_token_id) if seq2seq else None
    return Naive(copies, prompt_BS, mask_BS, setting.new_tokens, start)


@torch.no_grad()
def merged_copy(setting: Setting, adapter: dict[str, Tensor]) -> Any:
    """A full model with ``W + scale * B A`` in every adapted layer."""
    model = setting.new_model()
    for name in (key.removesuffix(".lora_A.weight") for key in adapter if key.endswith(".lora_A.weight")):
        layer = model.get_submodule(name.removeprefix("base_model.model."))
        weight = layer.weight
        a_RI, b_OR = (adapter[f"{name}.lora_{side}.weight"].to(weight.dtype) for side in "AB")
        update_OI = setting.backbone.settings.scale * (b_OR @ a_RI)
        weight += update_OI.T if isinstance(layer, Conv1D) else update_OI
    return model


def padded(setting: Setting, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, S) of rows of tokens, padded on the left or on the right."""
    width = max(map(len, rows))
    blank = [[setting.backbone.pad] * (width - len(row)) for row in rows]
    ids = [b + list(row) if left else list(row) + b for row, b in zip(rows, blank, strict=True)]
    real = [([1] * len(row), [0] * len(b)) for row, b in zip(rows, blank, strict=True)]
    marks = [none + one if left else one + none for one, none in real]
    device = setting.backbone.device
    return torch.tensor(ids, device=device), torch.tensor(marks, device=device)
