"""Loading a base model: every mistake that can be seen without its weights is reported before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from emorl_bench.core.errors import UserError
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PromptFormat
from emorl_bench.models.quantised import check_plain, reading, replace_layers
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.models.weights import check_weights, reason, unreported
from emorl_bench.offline.containment import check_code
from emorl_bench.offline.locating import Located, locate
from emorl_bench.offline.model_files import check_files

FAMILIES: dict[str, tuple[Any, type[Backbone]]] = {
    "seq2seq": (AutoModelForSeq2SeqLM, Seq2SeqBackbone),
    "causal": (AutoModelForCausalLM, CausalBackbone),
}


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from (`offline.locate`) and how it is loaded.

    Attributes:
        family: "seq2seq" or "causal".
        path: a directory, or a name of the hub.
        revision: commit, branch or tag of the hub.
        fallback: what is loaded instead when the hub cannot be reached.
        trust_remote_code: whether code that comes with the model may run.
        max_prompt_tokens: longer prompts lose their beginning.
        attention: transformers' name of an implementation of attention; None leaves the choice to transformers.
        gradient_checkpointing: whether training saves memory by `Backbone.checkpoint_gradients`.
        quantisation: "4bit" or "8bit": linear layers but the head are quantised as the weights are read (`quantised`);
            None leaves the weights as they are.
    """

    family: str
    path: str
    revision: str | None = None
    fallback: str | None = None
    trust_remote_code: bool = False
    max_prompt_tokens: int = 128
    attention: str | None = None
    gradient_checkpointing: bool = False
    quantisation: str | None = None

    def located(self) -> Located:
        """The model's directory, downloaded first if necessary, after every check that reads no weights.

        Raises:
            UserError: the family is unknown, the model does not exist, the hub cannot be reached, or a file is missing.
        """
        if self.family not in FAMILIES:
            raise UserError(f"model.family='{self.family}': must be one of {', '.join(FAMILIES)}")
        located = locate(self.path, self.revision, self.fallback, self.trust_remote_code)
        check_files(located.directory, self.path, hub=located.source == "hub")
        if self.trust_remote_code:
            check_code(located.directory, self.path)
        return located


def load_backbone(
    source: ModelSource,
    adapter: AdapterSettings,
    device: torch.device,
    dtype: torch.dtype,
    form: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
    new_tokens: int = 0,
) -> Backbone:
    """Load a base model and its tokenizer. Only safetensors are read, never pickles.

    Args:
        source: where the model is and how it is loaded.
        adapter: shape and targets of the adapters.
        device: where the model is put.
        dtype: the floating-point type of its weights.
        form: the template and the system prompt.
        new_tokens: the length limit of answers; prompt and answer must fit into the model's context.

    Raises:
        UserError: what `ModelSource.located` and `Backbone.checkpoint_gradients` raise, a model of the other family or
            with packed weights, weights or a tokenizer that do not fit it, or a context that does not hold prompt and
            answer.
    """
    place, code = str(source.located().directory), source.trust_remote_code
    logging.disable_progress_bar()  # a progress bar for every load would hide the lines of a sweep
    auto, backbone = FAMILIES[source.family]
    with explained(source.path, "config.json"):
        config = AutoConfig.from_pretrained(place, trust_remote_code=code)
    if bool(config.is_encoder_decoder) != (source.family == "seq2seq"):
        other = "seq2seq" if config.is_encoder_decoder else "causal"
        raise UserError(f"model.path={source.path}: is a {config.model_type}; use model={other} for it")
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        raise UserError(
            f"model.path={source.path}: its config.json has no decoder_start_token_id, the token that starts an "
            "answer; add it (T5's is its pad_token_id)"
        )
    check_plain(config, source.path)
    check_context(config, source.max_prompt_tokens, new_tokens)
    with explained(source.path, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=code)
    check_vocabulary(tokenizer, config, source.path)
    form.uses_chat(tokenizer, source.family)
    model = _with_weights(auto, source, place, dtype, device)
    loaded = backbone(model, tokenizer, adapter, source.max_prompt_tokens, form)
    loaded.reader.check_room()
    if source.gradient_checkpointing:
        loaded.checkpoint_gradients()
    check_head(loaded)
    return loaded


def _with_weights(auto: Any, source: ModelSource, place: str, dtype: torch.dtype, device: torch.device) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    if source.attention is not None:
        options["attn_implementation"] = source.attention
    if source.quantisation is not None:
        options |= reading(source.quantisation, device)
    with explained(source.path, "its weights"), unreported():
        model, report = auto.from_pretrained(place, use_safetensors=True, output_loading_info=True, **options)
    if source.quantisation is not None:
        replace_layers(model, dtype)
    check_weights(model, report["missing_keys"], f"model.path={source.path}")
    return model if source.quantisation is not None else model.to(device)  # bitsandbytes has put it there already


@contextmanager
def explained(path: str, what: str) -> Iterator[None]:
    """Turn any error of transformers about a damaged or foreign file into a `UserError` of one line.

    Args:
        path: the model's path as the user gave it.
        what: the part that is being loaded, for the message.

    Raises:
        UserError: in place of the first error inside this context.
    """
    try:
        yield
    except Exception as error:
        raise UserError(f"model.path={path}: {what} cannot be loaded: {reason(error)}") from error


def check_context(config: Any, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse limits of prompt and answer that need more positions than the model has; T5's positions have no limit.

    Raises:
        UserError: names both limits and the number of positions.
    """
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
    """Refuse a tokenizer with an id for which the model has no embedding; unused embeddings are allowed.

    Raises:
        UserError: names the largest id and the number of embeddings.
    """
    size, largest = config.get_text_config().vocab_size, max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < size:
        raise UserError(
            f"model.path={path}: its tokenizer has ids up to {largest} and the model {size} embeddings; "
            "use the tokenizer that belongs to this model"
        )


@torch.no_grad()
def check_head(backbone: Backbone) -> None:
    """Compare the logits of `Backbone.head` with the model's own.

    Blending hidden states is exact only if logits are a linear function of the last hidden state.

    Raises:
        UserError: they differ, because the model scales or caps its logits after the head.
    """
    ids = torch.tensor([backbone.prompt_ids("a b c")], device=backbone.device)
    if backbone.family == "seq2seq":
        start = torch.tensor([[backbone.model.config.decoder_start_token_id]], device=backbone.device)
        expected = backbone.model(input_ids=ids, decoder_input_ids=start).logits[:, -1]
    else:
        expected = backbone.model(input_ids=ids).logits[:, -1]
    _, hidden = backbone.start([ids[0].tolist()], 1)
    tolerance = 0.05 if hidden.dtype in (torch.bfloat16, torch.float16) else 1e-3
    own = backbone.head(hidden)
    if backbone.without_token is not None:
        expected = torch.where(backbone.without_token.to(own.device), own, expected)
    if not torch.allclose(own.float(), expected.float(), atol=tolerance, rtol=tolerance):
        raise UserError(
            f"model '{backbone.model.config.model_type}' changes its logits after the head (a scale or soft cap), "
            "so its hidden states cannot be blended; use another architecture"
        )
