"""The other side of decoding: transformers' generate, with one policy's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from benchmarks.models import Setting
from benchmarks.naive import merged_copy, padded
from benchmarks.timing import Side, timed


@dataclass
class Generating:
    """transformers' ``generate`` of the first expert, greedy and with a cache; no token ends it."""

    setting: Setting

    @cached_property
    def model(self) -> Any:
        """The first expert as a full model, with its adapter merged in."""
        model = merged_copy(self.setting, self.setting.experts[0].adapter())
        model.generation_config.pad_token_id = self.setting.backbone.pad
        model.generation_config.eos_token_id = None
        return model

    def side(self, setting: Setting) -> Side:
        """A timed decode of a setting's prompts."""
        return timed(lambda: self._prepared(setting, setting.new_tokens), setting.backbone.device)

    def warm_up(self, setting: Setting) -> None:
        """Decode two tokens, so that libraries are loaded."""
        self._prepared(setting, 2)()

    def _prepared(self, setting: Setting, tokens: int) -> Callable[[], object]:
        prompts = [setting.backbone.prompt_ids(e.context) for e in setting.prompts()]
        ids_PS, mask_PS = padded(setting, prompts, left=setting.backbone.family == "causal")
        return lambda: self._generate(ids_PS, mask_PS, tokens)

    @torch.no_grad()
    def _generate(self, ids_PS: torch.Tensor, mask_PS: torch.Tensor, tokens: int) -> None:
        length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        out = self.model.generate(input_ids=ids_PS, attention_mask=mask_PS, **length, do_sample=False)
        causal = self.setting.backbone.family == "causal"
        made = out.shape[1] - (ids_PS.shape[1] if causal else 1)
        if made != tokens:
            raise AssertionError(f"generate ended early: {made} tokens of {tokens}, so work is not equal")
