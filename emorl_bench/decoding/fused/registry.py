"""Which architectures have a fused step. All others are decoded through transformers' own modules."""

from __future__ import annotations

from typing import Any

from emorl_bench.decoding.fused.decoder_only import FusedGpt2, FusedLlama
from emorl_bench.decoding.fused.engine import FusedModel
from emorl_bench.decoding.fused.llama_variants import FusedGemma, FusedPhi3, FusedQwen3, FusedSmolLm3
from emorl_bench.decoding.fused.t5 import FusedT5
from emorl_bench.models.lora import LoraLinear

FUSED: dict[str, type[FusedModel]] = {
    "t5": FusedT5,
    "mt5": FusedT5,
    "gpt2": FusedGpt2,
    "llama": FusedLlama,
    "qwen2": FusedLlama,
    "mistral": FusedLlama,
    "qwen3": FusedQwen3,
    "smollm3": FusedSmolLm3,
    "gemma": FusedGemma,
    "phi3": FusedPhi3,
}


def fused_model(model: Any, layers: dict[str, LoraLinear]) -> FusedModel | None:
    """The fused step of a model of transformers; None where there is a reason to have none (`unfused_because`)."""
    return None if unfused_because(model.config) else FUSED[model.config.model_type](model, layers)


def unfused_because(config: Any) -> str | None:
    """Why a model has no fused step: its architecture, or a setting that the step does not know; None where it has."""
    if config.model_type not in FUSED:
        return "there is no fused step for this architecture"
    unusual = {
        "sliding_window": getattr(config, "sliding_window", None) is not None
        and getattr(config, "use_sliding_window", True),
        "scale_attn_by_inverse_layer_idx": getattr(config, "scale_attn_by_inverse_layer_idx", False),
        "add_cross_attention": getattr(config, "add_cross_attention", False),
        "scale_attn_weights": not getattr(config, "scale_attn_weights", True),
        "mlp_bias": getattr(config, "mlp_bias", False),
    }
    setting = next((name for name, here in unusual.items() if here), None)
    return setting and f"the fused step does not know its {setting}={getattr(config, setting)}"
