"""Which architectures have a fused step. All others are decoded through transformers' own modules."""

from __future__ import annotations

from typing import Any

from emorl_bench.decoding.fused.decoder_only import FusedGpt2, FusedLlama
from emorl_bench.decoding.fused.engine import FusedModel
from emorl_bench.decoding.fused.t5 import FusedT5
from emorl_bench.models.lora import LoraLinear

FUSED: dict[str, type[FusedModel]] = {
    "t5": FusedT5,
    "mt5": FusedT5,
    "gpt2": FusedGpt2,
    "llama": FusedLlama,
    "qwen2": FusedLlama,
    "mistral": FusedLlama,
}


def fused_model(model: Any, layers: dict[str, LoraLinear]) -> FusedModel | None:
    """The fused step of a model of transformers; None for other architectures, and for settings it does not know."""
    config = model.config
    unusual = (
        getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True),
        getattr(config, "scale_attn_by_inverse_layer_idx", False),
        getattr(config, "add_cross_attention", False),
        not getattr(config, "scale_attn_weights", True),
        getattr(config, "mlp_bias", False),
    )
    fused = FUSED.get(config.model_type)
    return None if fused is None or any(unusual) else fused(model, layers)
