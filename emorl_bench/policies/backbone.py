"""The frozen base model behind every policy: how prompts are read, one token is decoded, and responses are re-scored.

Two families share this seam, `Seq2SeqBackbone` and `CausalBackbone`. Rows are adapter-major: N adapters, and for each
the same R rows, so a batch of hidden states is (N*R, H).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emorl_bench.core.types import Rollout
from emorl_bench.policies.lora import AdapterSettings, LoraLinear, inject


@dataclass
class Decoding:
    """What one decode carries from step to step: a transformers cache and the masks that go with it."""

    cache: Any
    mask_RS: Tensor
    memory: Tensor | None = None  # encoder output, for encoder-decoder models


class Backbone(ABC):
    """A frozen model with low-rank layers in place, and its tokenizer."""

    family: str

    def __init__(self, model: Any, tokenizer: Any, settings: AdapterSettings, max_prompt_tokens: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings = settings
        self.max_prompt_tokens = max_prompt_tokens
        self.eos = self._eos_id()
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        self.lm_head: nn.Module = model.get_output_embeddings()
        self._fingerprint = fingerprint(model)
        self.layers: dict[str, LoraLinear] = inject(model, self.lm_head, settings.targets)

    def _eos_id(self) -> int:
        eos = self.tokenizer.eos_token_id
        if eos is None:
            eos = self.model.config.eos_token_id
        return int(eos)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def fingerprint(self) -> str:
        """Hash of the base weights: an adapter belongs to one base."""
        return self._fingerprint

    # reading and writing text -----------------------------------------------------------------
    @abstractmethod
    def prompt_ids(self, text: str) -> list[int]: ...

    def response_texts(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[str, ...]:
        """Text of each response, the end token and what follows it left out."""
        rows = [row[keep].tolist() for row, keep in zip(ids_BT, mask_BT & (ids_BT != self.eos), strict=True)]
        return tuple(self.tokenizer.batch_decode(rows, skip_special_tokens=True))

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
    @abstractmethod
    def forced(self, rollout: Rollout) -> Tensor:
        """(B, T, H): the hidden state from which each response token was drawn, differentiable."""


def distinct_contexts(rollout: Rollout) -> tuple[list[str], list[int]]:
    """The P texts that a rollout's rows have read, and which of them each row did."""
    contexts = list(dict.fromkeys(e.context for e in rollout.examples))
    place = {text: i for i, text in enumerate(contexts)}
    return contexts, [place[e.context] for e in rollout.examples]


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over every parameter's name, shape and bytes (16 hex digits)."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
