"""Policies: language models that answer prompts and can be trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Correction, Example, Rollout, Sampling


class Sampler(Protocol):
    """Anything that can answer prompts: a policy, a merged policy, an ensemble."""

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """Answer every prompt with ``sampling.samples_per_prompt`` responses.

        Args:
            examples: P prompts.
            sampling: length, temperature and number of samples (G) of the responses.
            rng: the only source of randomness.

        Returns:
            B = P * G responses; those of one prompt follow one another.
        """


class Policy(Sampler, Protocol):
    """A sampler that can be trained: one adapter of a shared base model."""

    @property
    def name(self) -> str:
        """The name of the adapter."""

    @property
    def base(self) -> str:
        """Hash of the base model's weights. An adapter can be loaded on this base only."""

    @property
    def ranks(self) -> Ranks:
        """The processes that divide this policy's work."""

    @property
    def correction(self) -> Correction | None:
        """What updates do about its sampler's log-probabilities; None where they are those of the training pass."""

    @property
    def memory(self) -> Memory:
        """What fits into memory; one object for all policies on one base model."""

    def hidden(self, rollout: Rollout) -> Tensor:
        """(B, T, H) hidden states from which each response token is predicted; gradients flow through them."""

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., H): all at once, so give few (`models.readout`)."""

    def logprobs(self, rollout: Rollout) -> Tensor:
        """(B, T) log-probabilities of the response tokens in nats, 0 where masked; gradients flow through them."""

    def tokenize_responses(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, T), int64, and their mask (B, T), bool, of given responses; the end token is added."""

    def is_eos(self, ids_BT: Tensor) -> Tensor:
        """(B, T) bool: whether a token ends a response."""

    def truncates(self, text: str) -> bool:
        """Whether a prompt is longer than the model reads, so that it would be truncated."""

    def reference(self) -> Policy:
        """The base model as a policy, with its adapters off."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The parameters that training changes."""

    def adapter(self) -> dict[str, Tensor]:
        """Copies of the tensors that training changes, by name."""

    def load_adapter(self, adapter: Mapping[str, Tensor]) -> None:
        """Set what training changes to the tensors that `adapter` has returned.

        Raises:
            UserError: names or shapes do not fit this model.
        """

    def save(self, path: Path) -> None:
        """Write the adapter into a directory, in PEFT's format."""
