"""Adapters on disk, in PEFT's folder format, so that any PEFT user can load what a run has trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from emorl_bench.core.errors import UserError

if TYPE_CHECKING:
    from emorl_bench.policies.backbone import Backbone

WEIGHTS = "adapter_model.safetensors"


def save_adapter(path: Path, tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; the latter remembers its base model's hash."""
    path.mkdir(parents=True, exist_ok=True)
    settings = backbone.settings
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=sorted(backbone.layers),
        task_type="SEQ_2_SEQ_LM" if backbone.family == "seq2seq" else "CAUSAL_LM",
        base_model_name_or_path=str(getattr(backbone.model, "name_or_path", "")),
        fan_in_fan_out=backbone.model.config.model_type == "gpt2",
    )
    config.save_pretrained(str(path))
    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(contiguous, path / WEIGHTS, metadata={"format": "pt", "base_fingerprint": backbone.fingerprint})


def read_adapter(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    """Read a PEFT folder's LoRA weights for this base.

    Raises:
        UserError: no safetensors there, another base model, or a LoRA variant with other arithmetic (rsLoRA, DoRA).
    """
    if not (path / WEIGHTS).is_file():
        raise UserError(f"adapter '{path}': no {WEIGHTS}; only safetensors are loaded")
    config = LoraConfig.from_pretrained(str(path))
    if config.use_rslora or config.use_dora:
        raise UserError(f"adapter '{path}': rsLoRA and DoRA are not supported; train it as plain LoRA")
    with safe_open(path / WEIGHTS, framework="pt") as file:
        base = (file.metadata() or {}).get("base_fingerprint", backbone.fingerprint)
    if base != backbone.fingerprint:
        raise UserError(
            f"adapter '{path}': trained on base {base}, this model is {backbone.fingerprint}; "
            "choose the model it was trained on"
        )
    return load_file(path / WEIGHTS)
