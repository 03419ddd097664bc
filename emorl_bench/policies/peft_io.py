"""Adapters on disk in PEFT's format, so that any user of PEFT can load what a run has trained.

The format is written here, because importing PEFT takes as long as importing torch, and a run needs nothing else of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from emorl_bench.core.atomic import write_text
from emorl_bench.core.tensor_file import write_tensors

if TYPE_CHECKING:
    from peft import LoraConfig

    from emorl_bench.models.backbone import Backbone

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    backbone: Backbone,
    *,
    rank: int | None = None,
    scale: float | None = None,
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; its metadata hold the base model's hash.

    The weights are written last, so where they are the export is complete. A merge has a ``rank`` of its own, and the
    ``scale`` of the adapters that it is made of; PEFT writes it as alpha = scale x rank.
    """
    settings = {"peft_type": "LORA", "bias": "none", "inference_mode": True, **lora_settings(backbone)}
    if rank is not None and scale is not None:
        settings |= {"r": rank, "lora_alpha": scale * rank}
    write_text(path / CONFIG, json.dumps(settings, indent=2) + "\n")
    write_tensors(path / WEIGHTS, tensors, {"format": "pt", "base_fingerprint": backbone.fingerprint})


def lora_settings(backbone: Backbone) -> dict[str, Any]:
    """The shape of this backbone's adapters, in the names of PEFT's ``LoraConfig``; all else is PEFT's default."""
    settings = backbone.settings
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": sorted(backbone.layers),
        "task_type": "SEQ_2_SEQ_LM" if backbone.family == "seq2seq" else "CAUSAL_LM",
        "base_model_name_or_path": str(getattr(backbone.model, "name_or_path", "")),
        "fan_in_fan_out": backbone.model.config.model_type == "gpt2",
    }


def peft_config(backbone: Backbone) -> LoraConfig:
    """The shape of this backbone's adapters as PEFT's own object, for who trains with PEFT."""
    from peft import LoraConfig

    return LoraConfig(**lora_settings(backbone))
