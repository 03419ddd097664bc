"""The other side of part 2: transformers' generate, and vLLM where it is installed, with one policy's weights."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.gpu.kit import Kit
from benchmarks.models import Setting, Shape, word_prompts, word_tokenizer
from benchmarks.naive import merged_copy, padded
from benchmarks.timing import Side, seconds_of, timed

VLLM_SECONDS = 90.0  # the start of its engine takes almost as long
VLLM_MEMORY = 0.3  # share of the card's memory


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


def vllm_rate(shape: Shape, kit: Kit) -> float | None:
    """Tokens a second of vLLM on a model of this shape with random weights.

    vLLM decodes greedily, with as many prompts of the same lengths as our side. The figure is a median of the same
    number of repeats, after one that is not counted.

    Returns:
        None if vLLM is not installed, or the time is too short.
    """
    if find_spec("vllm") is None:
        kit.skip("vLLM", "it is not installed")
        return None
    if not kit.affords("vLLM", VLLM_SECONDS):
        return None
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as directory:
        shape.model().to(kit.settings.dtype).save_pretrained(directory)
        engine = LLM(
            model=directory,
            dtype=str(kit.settings.dtype).removeprefix("torch."),
            skip_tokenizer_init=True,
            gpu_memory_utilization=VLLM_MEMORY,
            max_model_len=shape.prompt_tokens[1] + shape.new_tokens,
            enable_prefix_caching=False,
        )
        greedy = SamplingParams(temperature=0.0, max_tokens=shape.new_tokens, ignore_eos=True, detokenize=False)
        tokenizer, seconds = word_tokenizer(shape.vocabulary), []
        for call in range(kit.settings.repeats + 1):
            texts = [e.prompt for e in word_prompts(replace(shape), call)]
            asked = [{"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]
            run = _once(engine, asked, greedy)
            seconds.append(seconds_of(run, kit.device))
    return shape.prompts * shape.new_tokens / statistics.median(seconds[1:])


def _once(engine: Any, asked: list[dict[str, list[int]]], sampling: Any) -> Callable[[], object]:
    return lambda: engine.generate(asked, sampling, use_tqdm=False)
