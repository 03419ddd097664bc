"""Scorers on models that are used as they are: found, checked, loaded once for each process and device.

Texts are read in batches of fixed shape. Only safetensors are read. Code of a checkpoint is run only with
``trust_remote_code``. A classifier whose head is not in its checkpoint is refused, because it would score at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.memory import LARGEST
from emorl_bench.models.readout import COPIES, Head
from emorl_bench.models.shape import tokens_within
from emorl_bench.models.weights import check_weights, reason, unreported
from emorl_bench.offline import locate, resolve
from emorl_bench.offline.containment import check_code, check_contained
from emorl_bench.scorer_training.encoders import encoder_hash, load_encoder
from emorl_bench.scorer_training.shapes import fixed_batches
from emorl_bench.scorers.rule import DeviceScorer

DTYPES = ("float32", "bfloat16", "float16")
PROBE = 2  # ids that a head is tried on: padding alone has no embedding, and so no logits, in some models
KINDS: dict[str, Any] = {"causal": AutoModelForCausalLM, "classifier": AutoModelForSequenceClassification}


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def context(self) -> int:
        """The most tokens that the model reads. A tokenizer without a limit states it as 1e30."""
        own = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        return int(min(own, self.tokenizer.model_max_length))

    @property
    def pad(self) -> int:
        """The id of the padding: the tokenizer's padding token, or its end token."""
        pad = self.tokenizer.pad_token_id
        return int((self.tokenizer.eos_token_id or 0) if pad is None else pad)

    def padded(self, rows: Sequence[Sequence[int]], width: int) -> dict[str, Tensor]:
        """Right-padded ids and mask, both (B, width)."""
        ids_BT = self.filled(rows, self.pad, width)
        mask_BT = self.filled([[1] * len(row) for row in rows], 0, width)
        return {"input_ids": ids_BT, "attention_mask": mask_BT}

    def states(self, inputs: Mapping[str, Tensor], block_bytes: int) -> tuple[Head, Tensor]:
        """For a causal model: states (B, T, X), and the head that makes their logits.

        The states are the logits themselves where these fit into a block, or where the model scales or caps them after
        its head; else they are the hidden states.
        """
        logits = COPIES * 4 * inputs["input_ids"].numel() * self.model.config.get_text_config().vocab_size
        if logits <= block_bytes or not self.ends_in_its_head:
            return _itself, self.model(**inputs).logits
        return self.model.get_output_embeddings(), self.model.base_model(**inputs).last_hidden_state

    @cached_property
    def ends_in_its_head(self) -> bool:
        """Whether the logits of a causal model are its last hidden states times its head."""
        ids = {"input_ids": torch.arange(PROBE, device=self.device)[None]}
        with torch.no_grad():
            own = self.model.get_output_embeddings()(self.model.base_model(**ids).last_hidden_state)
            return torch.equal(own, self.model(**ids).logits)

    def tokens_within(self, block_bytes: int) -> int | None:
        """How many tokens the model may read at one time (`models.shape.tokens_within`)."""
        return tokens_within(block_bytes, self.model.config.to_dict(), self.model.dtype.itemsize)

    def filled(self, rows: Sequence[Sequence[int]], value: int, width: int) -> Tensor:
        """(B, width) int64 on the model's device, with ``value`` after the end of each row."""
        return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=self.device)


@dataclass(frozen=True, kw_only=True)
class Judge(DeviceScorer):
    """What scorers with a ready model share. With ``name`` and ``score``, a subclass is a `core.protocols.Scorer`.

    ``model`` is a directory, a name on the hub with its ``revision``, or ``offline:NAME``. ``held_out_model`` is the
    twin's. Without it the twin has the same model, and the held-out score of the report is no second opinion.
    ``batch_tokens`` limits how many tokens, padding included, are read at once; so does ``block_bytes``.
    """

    model: str
    revision: str | None = None
    held_out_model: str | None = None
    held_out_revision: str | None = None
    dtype: str = "float32"
    batch_tokens: int = 4096
    trust_remote_code: bool = False
    kind: ClassVar[str]
    """A key of `KINDS`, or ``encoder``."""

    def held_out(self) -> Self:
        """The scorer with the twin's model, where there is one."""
        if self.held_out_model is None:
            return self
        return replace(self, model=self.held_out_model, revision=self.held_out_revision, held_out_model=None)

    def prepare(self) -> None:
        """Load the model. There is nothing to train, but a missing or unsuitable model is found now.

        Raises:
            UserError: a model cannot be loaded.
        """
        if self.held_out_model is not None:
            directory(self.held_out_model)
        self.loaded()

    def fingerprint(self) -> str:
        """Hash of the model's files."""
        directory(self.model)
        return f"{type(self).__name__}-{encoder_hash(self.model, self.revision)}"

    def loaded(self) -> Loaded:
        """The model; it is loaded once for each process and device."""
        return load(self.kind, self.model, self.revision, self.trust_remote_code, self.device, self.dtype)

    def in_batches(self, rows: Sequence[Sequence[int]], judge: Callable[[list[int], int], Tensor]) -> Tensor:
        """(B, ...) float32 on the CPU: the values of ``judge``, which gets the indices of some rows and their width.

        The shape of a batch follows from the length of its rows alone, and so does every value
        (`scorer_training.shapes`). Another budget changes it by rounding, and on a CPU by nothing.
        """
        loaded = self.loaded()
        found: dict[int, Tensor] = {}
        fit = loaded.tokens_within(self.block_bytes or LARGEST)
        at_once = self.batch_tokens if fit is None else min(self.batch_tokens, fit)
        with torch.no_grad():
            lengths = list(map(len, rows))
            for indices, own, width in fixed_batches(lengths, loaded.context, loaded.device.type, at_once):
                values = judge(indices, width)[:own].float().cpu()
                found |= zip(indices[:own], values, strict=True)
        return torch.stack([found[i] for i in range(len(rows))]) if rows else torch.zeros(0)


def _itself(states: Tensor) -> Tensor:
    return states


def directory(model: str) -> str:
    """The local directory of a model, or the name on the hub as it is.

    Raises:
        UserError: there is no such directory, or it holds no model in safetensors.
    """
    place = resolve(model)
    path = Path(place).expanduser()
    if not path.is_dir():
        if path.is_absolute() or place.startswith((".", "~")) or place.count("/") > 1:
            raise UserError(f"scorer model={model}: there is no such directory; give a model directory or a hub id")
        return place
    if not (path / "config.json").is_file():
        raise UserError(f"scorer model={model}: no config.json in it; give the directory of a transformers model")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"scorer model={model}: no *.safetensors in it; only safetensors are loaded, "
            "write them with save_pretrained(DIRECTORY, safe_serialization=True)"
        )
    check_contained(path, model, "scorer model")
    return str(path)


@lru_cache(maxsize=6)
def load(kind: str, model: str, revision: str | None, trust_remote_code: bool, device: str, dtype: str) -> Loaded:
    """A ``causal`` model, a ``classifier`` or an ``encoder``.

    Raises:
        UserError: it cannot be fetched or read, or it is not of this kind.
    """
    if dtype not in DTYPES:
        raise UserError(f"scorer dtype={dtype}: unknown{did_you_mean(dtype, DTYPES)}")
    place = directory(model)
    if kind == "encoder":
        encoder, tokenizer = load_encoder(model, revision)
        return Loaded(encoder.eval().requires_grad_(False).to(device, getattr(torch, dtype)), tokenizer)
    logging.disable_progress_bar()
    if not Path(place).is_dir():  # a name on the hub: its snapshot is checked like a directory
        place = str(locate(model, revision, code=trust_remote_code, key="scorer model").directory)
        check_contained(Path(place), model, "scorer model")
    if trust_remote_code:
        check_code(Path(place), model, "scorer model")
    options = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        with unreported():
            read, info = KINDS[kind].from_pretrained(
                place, use_safetensors=True, dtype=getattr(torch, dtype), output_loading_info=True, **options
            )
    except Exception as error:  # safetensors, torch and transformers have errors of many kinds for a damaged file
        raise UserError(
            f"scorer model={model}: could not be loaded ({reason(error)}); "
            "without a hub give a local directory or offline:smollm2_135m"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"scorer model={model}: its checkpoint has no {missing[0]}, so this {kind} would judge at random; "
            f"give a checkpoint that was trained as a {kind}"
        )
    check_weights(read, (), f"scorer model={model}")
    loaded = Loaded(read.eval().requires_grad_(False).to(device), tokenizer)
    if read.config.pad_token_id is None:
        read.config.pad_token_id = (
            loaded.pad
        )  # decoders with a classification head need it to find the last token of a row
    return loaded
