"""An encoder of transformers from a directory, the hub or an offline package: safetensors only, hashed by content.

Code that comes with an encoder is never run, and nobody is asked about it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from emorl_bench.core.errors import UserError
from emorl_bench.models.weights import check_weights, reason, unreported
from emorl_bench.offline import locate
from emorl_bench.offline.containment import check_contained
from emorl_bench.offline.content import content_hash


def load_encoder(encoder: str, revision: str | None = None) -> tuple[Any, Any]:
    """The encoder in float32, without the pooler that some models add, and its tokenizer.

    Raises:
        UserError: there is no such directory or name, it holds no safetensors, it is no encoder, or it is damaged.
    """
    place = _place(encoder, revision)
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if config.is_encoder_decoder or not getattr(config, "hidden_size", None):
            raise UserError(f"encoder={encoder}: a {config.model_type} is no encoder; give one like RoBERTa or MiniLM")
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        with unreported():
            model, report = AutoModel.from_pretrained(
                place, use_safetensors=True, dtype="float32", trust_remote_code=False, output_loading_info=True
            )
    except UserError:
        raise
    except Exception as error:  # safetensors, torch and transformers have errors of many kinds for a damaged file
        raise UserError(f"encoder={encoder}: could not be loaded ({reason(error)})") from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # untrained in most checkpoints, and not used here
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    check_weights(model, missing, f"encoder={encoder}")
    return model, tokenizer


def blocks(model: Any) -> nn.ModuleList:
    """The encoder's blocks, first to last, whatever the architecture calls them.

    Raises:
        UserError: they are not found.
    """
    count = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(f"freeze_layers: the blocks of a {model.config.model_type} were not found; say freeze_layers=0")


def freeze(model: Any, layers: int) -> None:
    """Freeze everything except the blocks from number ``layers`` on; 0 freezes nothing.

    Raises:
        UserError: the encoder has fewer blocks.
    """
    if layers == 0:
        return
    found = blocks(model)
    if layers > len(found):
        raise UserError(f"freeze_layers={layers}: the encoder has {len(found)} blocks; give at most that many")
    model.requires_grad_(False)
    for block in found[layers:]:
        block.requires_grad_(True)


@lru_cache(maxsize=8)
def encoder_hash(encoder: str, revision: str | None = None) -> str:
    """16 hex digits of all files that decide what an encoder says, which do not depend on where it is."""
    return content_hash(_place(encoder, revision))[:16]


def _place(encoder: str, revision: str | None) -> Path:
    place = locate(encoder, revision, key="encoder").directory
    if not (place / "config.json").is_file():
        raise UserError(f"encoder={encoder}: no config.json in it; give the directory of a transformers encoder")
    check_contained(place, encoder, "encoder")
    if not any(place.glob("*.safetensors")):
        raise UserError(f"encoder={encoder}: no *.safetensors in it; only safetensors are loaded, convert the weights")
    return place
