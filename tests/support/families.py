"""Tiny random models of families of decoder-only models, with the settings that tell them from Llama."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from conftest import SPREAD, VOCABULARY
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": SPREAD,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
WINDOW = 4  # shorter than the prompts

FUSED: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)),  # wider than hidden size over heads
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=16)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**SHAPE, no_rope_layers=[1, 0, 1])),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHAPE)),
    "phi4": lambda: Phi3ForCausalLM(Phi3Config(**SHAPE, partial_rotary_factor=0.5)),
}
UNFUSED: dict[str, Callable[[], Any]] = {
    "phi": lambda: PhiForCausalLM(PhiConfig(**SHAPE)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=WINDOW)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=WINDOW)),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(**SHAPE, head_dim=8, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)
    ),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0)),
}


def family(build: Callable[[], Any], seed: int = 0) -> Any:
    """A model whose norms and biases are random too, so that none of them is left out unseen."""
    torch.manual_seed(seed)
    model = build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model
