"""The frozen base model behind every policy: how it reads a prompt, decodes one token, and re-scores a response.

Two families implement this interface, `Seq2SeqBackbone` and `CausalBackbone`. Rows are adapter-major: there are N
adapters, and each has the same R rows, so a batch of hidden states is (N*R, H). `start`, `step` and `select` decode
through transformers' own modules. For some architectures the decoder has a faster step of its own (`decoding.fused`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from emorl_bench.core.types import Rollout
from emorl_bench.models.gradient_checkpointing import checkpoint_blocks
from emorl_bench.models.lora import AdapterSettings, LoraLinear, inject
from emorl_bench.models.prompting import PromptFormat, PromptReader, end_ids
from emorl_bench.models.quantised import QuantisedLinear
from emorl_bench.models.shape import Shape

NO_PROBABILITY = -1e30  # a logit so low that its probability is 0; finite, because 0 times infinity is no number


@dataclass
class Decoding:
    """What one decode through transformers' modules carries from step to step, for N*R rows.

    ``cache`` is transformers' own object of keys and values. ``mask_RS`` (N*R, S) is true at real tokens. ``memory``
    (N*R, S, H) is the encoder's output, None for decoder-only models.
    """

    cache: Any
    mask_RS: Tensor
    memory: Tensor | None = None


class Backbone(ABC):
    """A frozen model with low-rank layers in place, and its tokenizer.

    Args:
        model: a model of transformers with a language-model head. It is put into evaluation mode and changed in place:
            every adapter target is wrapped in a `LoraLinear`.
        tokenizer: the tokenizer that belongs to the model.
        settings: shape and targets of the adapters.
        max_prompt_tokens: longer prompts lose their beginning (`prompting`).
        form: the template and the system prompt that a prompt is put into.

    Raises:
        UserError: an adapter target names no linear layer of the model, or the model has no end token.
    """

    family: str

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: AdapterSettings,
        max_prompt_tokens: int,
        form: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
    ) -> None:
        """Wrap the adapter targets of the model; see the class for the arguments."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings = settings
        self.max_prompt_tokens = max_prompt_tokens
        chat = form.uses_chat(tokenizer, self.family)
        self.reader = PromptReader(tokenizer, form, max_prompt_tokens, chat, self.plain_ids)
        self.eos, *self.other_ends = end_ids(tokenizer, model, chat)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        self.lm_head: Any = model.get_output_embeddings()
        self.without_token = ids_without_token(tokenizer, int(self.lm_head.weight.shape[0]))
        self._fingerprint = fingerprint(model)
        self.packed = any(isinstance(module, QuantisedLinear) for module in model.modules())
        self.layers: dict[str, LoraLinear] = inject(model, self.lm_head, settings.targets)
        self.sharded = False  # `sharding.shard` sets it: this process then holds only a part of each block
        self._recomputes = False
        self.shape = Shape.of(model.config.to_dict())

    @property
    def device(self) -> torch.device:
        """The device that the base weights lie on; inputs are put there."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the base weights and of hidden states."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def vocabulary(self) -> int:
        """V: the number of logits that the head gives."""
        return int(self.lm_head.weight.shape[0])

    @property
    def fingerprint(self) -> str:
        """The hash of the base weights without adapters (16 hex digits): an adapter belongs to one base."""
        return self._fingerprint

    # reading and writing text -----------------------------------------------------------------
    @abstractmethod
    def plain_ids(self, text: str) -> list[int]:
        """Token ids of a text for a model without a chat template: special tokens included, never truncated."""

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a prompt in its template, at most ``max_prompt_tokens`` of them (`prompting`)."""
        return self.reader.ids(text)

    def is_eos(self, ids: Tensor) -> Tensor:
        """Whether each token is one of the model's end tokens: int64 of any shape -> bool of the same shape."""
        is_eos = ids == self.eos
        for other in self.other_ends:
            is_eos = is_eos | (ids == other)
        return is_eos

    def response_ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) of answers as the tokenizer encodes them, each with the end token added.

        Control tokens that are spelled in an answer are removed, as in prompts.
        """
        plain = [self.reader.without_controls(text) for text in texts]
        rows = self.tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
        ids_BT, mask_BT = self._padded([[*row, self.eos] for row in rows], left=False)
        return ids_BT, mask_BT.bool()

    def response_texts(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[str, ...]:
        """The text of each response (B, T), without its end token and without what the mask leaves out."""
        rows = [row[keep].tolist() for row, keep in zip(ids_BT, mask_BT & ~self.is_eos(ids_BT), strict=True)]
        return tuple(self.tokenizer.batch_decode(rows, skip_special_tokens=True))

    @property
    @abstractmethod
    def first_token(self) -> int | None:
        """The token that the decoder is fed first; None for models that continue the prompt itself."""

    @abstractmethod
    def padded_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad P prompts on the side that this family needs.

        Returns:
            int64 ids (P, S), and a mask (P, S) that is 1 at real tokens; S is the longest prompt.
        """

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        width = max(len(r) for r in rows)
        fill = [[self.pad] * (width - len(r)) for r in rows]
        keep = [[1] * len(r) for r in rows]
        none = [[0] * (width - len(r)) for r in rows]
        ids = [f + list(r) if left else list(r) + f for r, f in zip(rows, fill, strict=True)]
        mask = [n + k if left else k + n for k, n in zip(keep, none, strict=True)]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    # decoding ---------------------------------------------------------------------------------
    @abstractmethod
    def start(self, prompts: Sequence[Sequence[int]], adapters: int) -> tuple[Decoding, Tensor]:
        """Read P prompts once for each of N adapters, which are active on the model's layers.

        Returns:
            the state of the decode, and the (N*P, H) hidden states whose logits choose the first tokens.
        """

    @abstractmethod
    def step(self, state: Decoding, tokens_R: Tensor) -> Tensor:
        """Feed one token to each row: ids (N*R,) -> hidden states (N*R, H). The state is changed in place."""

    def select(self, state: Decoding, rows: Tensor) -> Decoding:
        """The same decode with some of its rows, by index: repeated, dropped or reordered."""
        state.cache.batch_select_indices(rows)
        memory = None if state.memory is None else state.memory[rows]
        return Decoding(state.cache, state.mask_RS[rows], memory)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., V) logits, in the model's own dtype; an id without a token has no probability."""
        return self._of_tokens(self.lm_head(hidden))

    def _of_tokens(self, logits: Tensor) -> Tensor:
        """The logits (..., V), `NO_PROBABILITY` at every id without a token."""
        if self.without_token is None:
            return logits
        self.without_token = self.without_token.to(logits.device)  # kept there: a copy would wait for the device
        return logits.masked_fill(self.without_token, NO_PROBABILITY)

    # teacher forcing --------------------------------------------------------------------------
    def checkpoint_gradients(self) -> None:
        """Keep less memory in forward passes with gradients from now on; backward passes then take longer.

        Raises:
            UserError: the model does not say what its blocks are (`checkpoint_blocks`).
        """
        checkpoint_blocks(self.model)
        self._recomputes = True

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass will run a forward pass made now again. Such a forward pass must use no cache."""
        return self._recomputes and torch.is_grad_enabled()

    @abstractmethod
    def forced(self, rollouts: Sequence[Rollout]) -> Tensor:
        """The hidden state from which each response token was drawn, by teacher forcing; differentiable.

        Args:
            rollouts: one rollout of B rows for each of the N adapters that are active.

        Returns:
            (N*B, T, H), adapter-major; T is the longest response of all rollouts.
        """


def ids_without_token(tokenizer: Any, size: int) -> Tensor | None:
    """(V,) whether the tokenizer has no token for an id; None where it has one for each.

    Many checkpoints round the number of embeddings up. Such an id would be an answer that no text can show.
    """
    known = torch.tensor(sorted({i for i in tokenizer.get_vocab().values() if i < size}), dtype=torch.long)
    if len(known) == size:
        return None
    return torch.ones(size, dtype=torch.bool).index_fill(0, known, False)


def distinct_contexts(rollouts: Sequence[Rollout]) -> tuple[list[str], list[int]]:
    """The distinct prompts of N rollouts, so that samples of one prompt can share its encoding.

    Returns:
        N*P texts, rollout-major, and for each of the N*B rows the index of its text. P is the largest number of
        distinct texts in a rollout; a rollout with fewer repeats its last one, so that all blocks have equal size.
    """
    distinct = [list(dict.fromkeys(e.context for e in rollout.examples)) for rollout in rollouts]
    most = max(map(len, distinct))
    texts: list[str] = []
    rows: list[int] = []
    for contexts, rollout in zip(distinct, rollouts, strict=True):
        place = {text: len(texts) + i for i, text in enumerate(contexts)}
        rows += [place[e.context] for e in rollout.examples]
        texts += contexts + contexts[-1:] * (most - len(contexts))
    return texts, rows


def responses(rollouts: Sequence[Rollout], fill: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (N*B, T) of N rollouts, rollout-major; shorter responses are padded with ``fill`` and masked."""
    width = max(rollout.response_ids_BT.shape[1] for rollout in rollouts)
    grown = [(r.response_ids_BT, r.response_mask_BT, (0, width - r.response_ids_BT.shape[1])) for r in rollouts]
    ids = [pad(ids_BT, by, value=fill) for ids_BT, _, by in grown]
    return torch.cat(ids), torch.cat([pad(mask_BT, by, value=False) for _, mask_BT, by in grown])


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over every parameter's name, shape and bytes (16 hex digits)."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
