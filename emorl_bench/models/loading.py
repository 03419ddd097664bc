"""From a path to a backbone, with every mistake that can be seen caught before weights are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from emorl_bench.core.errors import UserError
from emorl_bench.offline.locating import Located, locate
from emorl_bench.offline.soundness import check_files
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PromptFormat
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.decoding.stepping import Start, stepping

PROBE = (3, 5, 4)  # tokens on which two ways of decoding are compared
FAMILIES: dict[str, tuple[Any, type[Backbone]]] = {
    "seq2seq": (AutoModelForSeq2SeqLM, Seq2SeqBackbone),
    "causal": (AutoModelForCausalLM, CausalBackbone),
}


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from (`offline.locate`) and how it is loaded.

    ``fallback`` serves where the hub cannot be reached; ``attention`` is transformers' name of an implementation, None
    leaves the choice to it. ``gradient_checkpointing`` is `Backbone.recompute`.
    """

    family: str
    path: str
    revision: str | None = None
    fallback: str | None = None
    trust_remote_code: bool = False
    max_prompt_tokens: int = 128
    attention: str | None = None
    gradient_checkpointing: bool = False

    def located(self) -> Located:
        """Its directory, fetched first where need be, after every check that reads no weights.

        Raises:
            UserError: unknown family, no such model, a hub that cannot be reached, or a directory that lacks something.
        """
        if self.family not in FAMILIES:
            raise UserError(f"model.family='{self.family}': must be one of {', '.join(FAMILIES)}")
        located = locate(self.path, self.revision, self.fallback, self.trust_remote_code)
        check_files(located.directory, self.path, hub=located.source == "hub")
        return located


def load_backbone(
    source: ModelSource,
    adapter: AdapterSettings,
    device: torch.device,
    dtype: torch.dtype,
    form: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
    new_tokens: int = 0,
) -> Backbone:
    """Load a base model and its tokenizer; only safetensors are read. Answers have up to ``new_tokens`` tokens.

    Raises:
        UserError: what `ModelSource.located` and `Backbone.recompute` raise, a model of the other family, weights or a
            tokenizer that do not fit it, or a context that does not hold prompt and answer.
    """
    place, code = str(source.located().directory), source.trust_remote_code
    logging.disable_progress_bar()  # a bar for every load would bury a sweep's own lines
    auto, backbone = FAMILIES[source.family]
    with explained(source.path, "config.json"):
        config = AutoConfig.from_pretrained(place, trust_remote_code=code)
    if bool(config.is_encoder_decoder) != (source.family == "seq2seq"):
        other = "seq2seq" if config.is_encoder_decoder else "causal"
        raise UserError(f"model.path={source.path}: is a {config.model_type}; use model={other} for it")
    check_context(config, source.max_prompt_tokens, new_tokens)
    with explained(source.path, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=code)
    check_vocabulary(tokenizer, config, source.path)
    form.uses_chat(tokenizer, source.family)
    model = _with_weights(auto, source, place, dtype)
    loaded = backbone(model.to(device), tokenizer, adapter, source.max_prompt_tokens, form)
    loaded.reader.check_room()
    if source.gradient_checkpointing:
        loaded.recompute()
    check_head(loaded)
    check_fused(loaded)
    return loaded


def _with_weights(auto: Any, source: ModelSource, place: str, dtype: torch.dtype) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    if source.attention is not None:
        options["attn_implementation"] = source.attention
    with explained(source.path, "its weights"):
        model, report = auto.from_pretrained(place, use_safetensors=True, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):  # transformers would draw them at random
        raise UserError(f"model.path={source.path}: {len(missing)} weights are not in its files, such as {missing[0]}")
    return model


@contextmanager
def explained(path: str, what: str) -> Iterator[None]:
    """Whatever transformers makes of damaged or foreign files, in one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"model.path={path}: {what} cannot be loaded: {lines[0]}") from error


def check_context(config: Any, prompt_tokens: int, new_tokens: int) -> None:
    """Prompt and answer must have positions; T5's are relative and have no end."""
    longest = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if longest is None or hasattr(config, "relative_attention_num_buckets"):
        return
    needed = max(prompt_tokens, new_tokens) if config.is_encoder_decoder else prompt_tokens + new_tokens
    if needed > longest:
        raise UserError(
            f"model.max_prompt_tokens={prompt_tokens} and sampling.max_new_tokens={new_tokens} need {needed} places; "
            f"this {config.model_type} has {longest}: lower one of them"
        )


def check_vocabulary(tokenizer: Any, config: Any, path: str) -> None:
    """Every token must have an embedding; a model may have more, as padding."""
    size, largest = config.get_text_config().vocab_size, max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < size:
        raise UserError(
            f"model.path={path}: its tokenizer has ids up to {largest} and the model {size} embeddings; "
            "use the tokenizer that belongs to this model"
        )


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
