"""The interfaces of what answers prompts: generators, and policies, which can also be trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Example, Rollout, Sampling


class Generator(Protocol):
    """Anything that can answer prompts: a policy, a merged policy, an ensemble."""

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """Answer every example with ``sampling.samples_per_prompt`` responses.

        Args:
            examples: P prompts.
            sampling: length, temperature and number of samples (G) of the responses.
            rng: the only source of randomness.

        Returns:
            B = P * G responses, those of one prompt in a row.
        """


class Policy(Generator, Protocol):
    """A generator that can be trained: one LoRA adapter of a shared base model."""

    @property
    def name(self) -> str:
        """The adapter's name."""

    @property
    def base(self) -> str:
        """Hash of the base model's weights. An adapter can be loaded on this base only."""

    @property
    def ranks(self) -> Ranks:
        """The processes that divide this policy's work."""

    def hidden(self, rollout: Rollout) -> Tensor:
        """(B, T, H) hidden states from which each response token was predicted, with gradient."""

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """(B, T, H) hidden states -> (B, T, V) logits."""

    def logprobs(self, rollout: Rollout) -> Tensor:
        """(B, T) log-probabilities of the response tokens in nats, with gradient; 0 where masked."""

    def spelt(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenize responses: ids (B, T), int64, and their mask (B, T), bool; the end token is added."""

    def ended(self, ids_BT: Tensor) -> Tensor:
        """Whether each token is one that ends a response: ids (B, T) -> bool (B, T)."""

    def cuts(self, text: str) -> bool:
        """Whether a context is longer than the model reads, so that it would be truncated."""

    def reference(self) -> Policy:
        """The base model as a policy: adapters off."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The parameters that training changes."""

    def adapter(self) -> dict[str, Tensor]:
        """Name -> tensor of all that training changes."""

    def load_adapter(self, adapter: Mapping[str, Tensor]) -> None:
        """Set what training changes to the tensors that `adapter` has returned."""

    def save(self, path: Path) -> None:
        """Write the adapter into a directory in PEFT's format."""
