"""Adapters on disk in PEFT's format, so that any user of PEFT can load what a run has trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from peft import LoraConfig

    from emorl_bench.models.backbone import Backbone

WEIGHTS = "adapter_model.safetensors"


def save_adapter(path: Path, tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, whose metadata hold the base model's hash."""
    path.mkdir(parents=True, exist_ok=True)
    peft_config(backbone).save_pretrained(str(path))
    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(contiguous, path / WEIGHTS, metadata={"format": "pt", "base_fingerprint": backbone.fingerprint})


def peft_config(backbone: Backbone) -> LoraConfig:
    """The shape of this backbone's adapters as PEFT's configuration."""
    from peft import LoraConfig  # importing it takes as long as torch and transformers together

    settings = backbone.settings
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=sorted(backbone.layers),
        task_type="SEQ_2_SEQ_LM" if backbone.family == "seq2seq" else "CAUSAL_LM",
        base_model_name_or_path=str(getattr(backbone.model, "name_or_path", "")),
        fan_in_fan_out=backbone.model.config.model_type == "gpt2",
    )
