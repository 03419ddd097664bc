"""The frozen base model behind every policy: how prompts are read, one token is decoded, and responses are re-scored.

Two families share this seam, `Seq2SeqBackbone` and `CausalBackbone`. Rows are adapter-major: N adapters, and for each
the same R rows, so a batch of hidden states is (N*R, H). `start`, `step` and `select` decode through transformers' own
modules; where ``fused`` is not None, `stepping` decodes through that instead.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from emorl_bench.core.types import Rollout
from emorl_bench.decoding.fused.registry import fused_model
from emorl_bench.models.lora import AdapterSettings, LoraLinear, inject
from emorl_bench.models.prompting import PromptFormat, PromptReader, end_ids
from emorl_bench.models.gradient_checkpointing import recompute_blocks
from emorl_bench.decoding.bf16_argmax import Screen


@dataclass
class Decoding:
    """What one decode carries from step to step: a transformers cache and the masks that go with it."""

    cache: Any
    mask_RS: Tensor
    memory: Tensor | None = None  # encoder output, for encoder-decoder models


class Backbone(ABC):
    """A frozen model with low-rank layers in place, and its tokenizer."""

    family: str

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: AdapterSettings,
        max_prompt_tokens: int,
        form: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings = settings
        self.max_prompt_tokens = max_prompt_tokens
        chat = form.uses_chat(tokenizer, self.family)
        self.reader = PromptReader(tokenizer, form, max_prompt_tokens, chat, self.plain_ids)
        self.eos, *self.other_ends = end_ids(tokenizer, model, chat)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        self.lm_head: Any = model.get_output_embeddings()
        self._fingerprint = fingerprint(model)
        self.layers: dict[str, LoraLinear] = inject(model, self.lm_head, settings.targets)
        self.fused = fused_model(model, self.layers)
        self._recomputes = False

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def vocabulary(self) -> int:
        """How many logits the head gives."""
        return int(self.lm_head.weight.shape[0])

    @cached_property
    def screen(self) -> Screen | None:
        """Made when a greedy token is first wanted: it takes half the memory of the head."""
        return Screen.of(self.lm_head)

    @property
    def fingerprint(self) -> str:
        """Hash of the base weights: an adapter belongs to one base."""
        return self._fingerprint

    # reading and writing text -----------------------------------------------------------------
    @abstractmethod
    def plain_ids(self, text: str) -> list[int]:
        """A text as this family reads it where there is no chat template, special tokens included, however long."""

    def prompt_ids(self, text: str) -> list[int]:
        """A prompt in its template, at most ``max_prompt_tokens`` long (`prompting`)."""
        return self.reader.ids(text)

    def ended(self, ids: Tensor) -> Tensor:
        """Which tokens end an answer, by whichever of the model's end tokens."""
        ended = ids == self.eos
        for other in self.other_ends:
            ended = ended | (ids == other)
        return ended

    def response_ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) of answers as the tokenizer spells them, each with its end token."""
        rows = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        ids_BT, mask_BT = self._padded([[*row, self.eos] for row in rows], left=False)
        return ids_BT, mask_BT.bool()

    def response_texts(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[str, ...]:
        """Text of each response, the end token and what follows it left out."""
        rows = [row[keep].tolist() for row, keep in zip(ids_BT, mask_BT & ~self.ended(ids_BT), strict=True)]
        return tuple(self.tokenizer.batch_decode(rows, skip_special_tokens=True))

    @property
    @abstractmethod
    def first_token(self) -> int | None:
        """What the decoder is fed first; None where the prompt itself is continued."""

    @abstractmethod
    def padded_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask (P, S), padded on the side that this family needs."""

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
        """Read P prompts once for each of N adapters: the state, and (N*P, H) hidden states for the first token."""

    @abstractmethod
    def step(self, state: Decoding, tokens_R: Tensor) -> Tensor:
        """Feed one token to each row: (N*R,) -> (N*R, H)."""

    def select(self, state: Decoding, rows: Tensor) -> Decoding:
        """The same decode with rows repeated, dropped or reordered."""
        state.cache.batch_select_indices(rows)
        memory = None if state.memory is None else state.memory[rows]
        return Decoding(state.cache, state.mask_RS[rows], memory)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., V) logits, in the model's own dtype."""
        return self.lm_head(hidden)

    # teacher forcing --------------------------------------------------------------------------
    def recompute(self) -> None:
        """From now on passes with gradients keep less and take longer; raises what `recompute_blocks` raises."""
        recompute_blocks(self.model)
        self._recomputes = True

    @property
    def recomputes(self) -> bool:
        """Whether a pass made now is recomputed, and so must do without a cache."""
        return self._recomputes and torch.is_grad_enabled()

    @abstractmethod
    def forced(self, rollouts: Sequence[Rollout]) -> Tensor:
        """(N*B, T, H): the hidden state from which each response token was drawn, differentiable.

        One rollout of B rows for each of N adapters, adapter-major; the longest response of all sets T.
        """


def distinct_contexts(rollouts: Sequence[Rollout]) -> tuple[list[str], list[int]]:
    """N*P texts, rollout-major, that the rows of N rollouts have read, and which of them each row did.

    P is the largest number of distinct texts; a rollout with fewer reads its last one again, so that blocks are equal.
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
    """Ids and mask (N*B, T) of N rollouts, rollout-major, ``fill`` where a response is shorter than the longest."""
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
