"""From a model directory or hub id to a backbone, with every mistake caught before weights are read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from emorl_bench.core.errors import UserError
from emorl_bench.policies.backbone import Backbone
from emorl_bench.policies.causal import CausalBackbone
from emorl_bench.policies.lora import AdapterSettings
from emorl_bench.policies.seq2seq import Seq2SeqBackbone
from emorl_bench.policies.stepping import Start, stepping

PROBE = (3, 5, 4)  # tokens on which two ways of decoding are compared
FAMILIES: dict[str, tuple[Any, type[Backbone]]] = {
    "seq2seq": (AutoModelForSeq2SeqLM, Seq2SeqBackbone),
    "causal": (AutoModelForCausalLM, CausalBackbone),
}


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from: a local directory, or a hub id with a pinned ``revision``."""

    family: str
    path: str
    revision: str | None = None
    trust_remote_code: bool = False
    max_prompt_tokens: int = 128


def load_backbone(source: ModelSource, adapter: AdapterSettings, device: torch.device, dtype: torch.dtype) -> Backbone:
    """Load a base model and its tokenizer; only safetensors are read.

    Raises:
        UserError: unknown family, missing directory, no safetensors, wrong kind of model, or a model that cannot be
            fetched.
    """
    check_source(source)
    logging.disable_progress_bar()  # a bar for every load would bury a sweep's own lines
    auto, backbone = FAMILIES[source.family]
    options = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source.path, **options)
        if bool(config.is_encoder_decoder) != (source.family == "seq2seq"):
            other = "seq2seq" if config.is_encoder_decoder else "causal"
            raise UserError(f"model '{source.path}' is a {config.model_type}: use model={other} for it")
        tokenizer = AutoTokenizer.from_pretrained(source.path, **options)
        model = auto.from_pretrained(source.path, use_safetensors=True, dtype=dtype, **options)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model.path='{source.path}' could not be loaded: {reason} "
            "(without a hub, give a local directory or use model=tiny_t5)"
        ) from error
    loaded = backbone(model.to(device), tokenizer, adapter, source.max_prompt_tokens)
    check_head(loaded)
    check_fused(loaded)
    return loaded


def check_source(source: ModelSource) -> None:
    """What can be known about a model's path without reading weights."""
    if source.family not in FAMILIES:
        raise UserError(f"model.family='{source.family}': must be one of {', '.join(FAMILIES)}")
    path = Path(source.path).expanduser()
    looks_local = path.is_absolute() or source.path.startswith((".", "~")) or source.path.count("/") != 1
    if looks_local and not path.exists():
        raise UserError(f"model.path='{source.path}': no such directory; give a model directory or a hub id")
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise UserError(f"model.path='{source.path}': holds no *.safetensors; save the model with safetensors first")


@torch.no_grad()
def check_head(backbone: Backbone) -> None:
    """Blending needs logits to be a linear function of the last hidden state: compare with the model's own."""
    ids = torch.tensor([backbone.prompt_ids("a b c")], device=backbone.device)
    if backbone.family == "seq2seq":
        start = torch.tensor([[backbone.model.config.decoder_start_token_id]], device=backbone.device)
        expected = backbone.model(input_ids=ids, decoder_input_ids=start).logits[:, -1]
    else:
        expected = backbone.model(input_ids=ids).logits[:, -1]
    _, hidden = backbone.start([ids[0].tolist()], 1)
    tolerance = 0.05 if hidden.dtype in (torch.bfloat16, torch.float16) else 1e-3
    if not torch.allclose(backbone.head(hidden).float(), expected.float(), atol=tolerance, rtol=tolerance):
        raise UserError(
            f"model '{backbone.model.config.model_type}' changes its logits after the head (a scale or soft cap), "
            "so its hidden states cannot be blended; use another architecture"
        )


@torch.no_grad()
def check_fused(backbone: Backbone) -> None:
    """A model that differs from its kind in a way the fused step does not know is decoded by its own modules."""
    if backbone.fused is None:
        return
    start = Start([backbone.prompt_ids("a b c"), backbone.prompt_ids("a")], (), None, steps=len(PROBE) + 1)
    fused_H = _probed(backbone, start)
    fused, backbone.fused = backbone.fused, None
    own_H = _probed(backbone, start)
    tolerance = 0.1 if own_H.dtype in (torch.bfloat16, torch.float16) else 1e-3
    if torch.allclose(fused_H.float(), own_H.float(), atol=tolerance * float(own_H.abs().max()), rtol=0):
        backbone.fused = fused
        return
    kind = backbone.model.config.model_type
    print(f"model '{kind}': decoded by its own modules, slower; the fused step differs from them", file=sys.stderr)


def _probed(backbone: Backbone, start: Start) -> torch.Tensor:
    """Hidden states after a few tokens."""
    with stepping(backbone, start, None) as stepper:
        states = [stepper.first()]
        for token in PROBE:
            states.append(stepper.step(torch.full((len(start.prompts),), token, device=backbone.device)))
    return torch.cat(states)
