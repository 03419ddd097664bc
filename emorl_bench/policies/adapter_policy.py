"""Policies that are adapters of one base model in memory.

The reference policy is the base model with its adapters off; it is never a second copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.memory import Memory
from emorl_bench.core.protocols import Policy
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Correction, Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, active, fresh_adapter
from emorl_bench.models.readout import response_logprobs
from emorl_bench.policies.peft_io import save_adapter


@dataclass(frozen=True)
class BackbonePolicy(ABC):
    """What policies on one loaded base model share, whatever of them is trained; see `core.protocols.Policy`."""

    name: str
    decoder: Decoder

    @property
    def backbone(self) -> Backbone:
        """The base model."""
        return self.decoder.backbone

    @property
    def base(self) -> str:
        """Hash of the base model's weights."""
        return self.backbone.fingerprint

    @property
    def ranks(self) -> Ranks:
        """The processes that divide the policy's work."""
        return self.decoder.ranks

    @property
    def correction(self) -> Correction | None:
        """What updates do about the decoder's log-probabilities."""
        return self.decoder.correction

    @property
    def memory(self) -> Memory:
        """What fits into memory."""
        return self.decoder.memory

    @abstractmethod
    def hidden(self, rollout: Rollout) -> Tensor:
        """(B, T, H) hidden states from which each response token is predicted; gradients flow through them."""

    @abstractmethod
    def trained(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name; they are not copies."""

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """(B, T, V) logits, in the model's dtype."""
        return self.backbone.head(hidden_BTH)

    def logprobs(self, rollout: Rollout) -> Tensor:
        """(B, T) log-probabilities of the rollout's tokens at its temperature, 0 where masked; differentiable."""
        return response_logprobs(self.logits, self.hidden(rollout), rollout, self.memory.block_bytes)

    def tokenize_responses(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, T) of given responses and their mask (B, T); the end token is added."""
        return self.backbone.response_ids(texts)

    def is_eos(self, ids_BT: Tensor) -> Tensor:
        """(B, T): whether a token is an end token."""
        return self.backbone.is_eos(ids_BT)

    def truncates(self, text: str) -> bool:
        """Whether a prompt is longer than the model reads."""
        return self.backbone.reader.truncates(text)

    def reference(self) -> AdapterPolicy:
        """The base model without an adapter."""
        return AdapterPolicy("reference", self.decoder, None)

    def adapter(self) -> dict[str, Tensor]:
        """Copies of the tensors that training changes, by name."""
        return {k: v.clone() for k, v in self.trained().items()}

    @torch.no_grad()
    def load_adapter(self, adapter: Mapping[str, Tensor]) -> None:
        """Overwrite what training changes, in place.

        Raises:
            UserError: names or shapes belong to another base model or to another shape of adapter.
        """
        mine = self.trained()
        wrong = [k for k in mine.keys() | adapter.keys() if k not in mine or k not in adapter]
        wrong += [k for k in mine.keys() & adapter.keys() if mine[k].shape != adapter[k].shape]
        if wrong:
            raise UserError(
                f"adapter for '{self.name}': {len(wrong)} tensors do not fit this model ({sorted(wrong)[0]}); "
                "it was trained on another base model or with another model.adapter"
            )
        for key, value in mine.items():
            value.copy_(adapter[key])


@dataclass(frozen=True)
class AdapterPolicy(BackbonePolicy):
    """One adapter of a shared base model. ``own=None`` is the base model itself, of which nothing is trained."""

    own: Adapter | None

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The adapter, or nothing."""
        return () if self.own is None else (self.own,)

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`."""
        return self.decoder.decode_policies(self.adapters, None, [examples], sampling, [rng])

    def hidden(self, rollout: Rollout) -> Tensor:
        """See `BackbonePolicy.hidden`."""
        with active(self.backbone.layers, self.adapters):
            return self.backbone.forced([rollout])

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The adapter's parameters."""
        return iter(()) if self.own is None else self.own.parameters()

    def trained(self) -> dict[str, Tensor]:
        """The adapter's tensors."""
        return {} if self.own is None else self.own.tensors()

    def save(self, path: Path) -> None:
        """Write an adapter directory of PEFT: adapter_config.json and adapter_model.safetensors."""
        if self.own is not None:
            save_adapter(path, self.adapter(), self.backbone)


@dataclass(frozen=True)
class AdapterBank:
    """Makes policies on one base model.

    ``seed`` fixes the initial adapter, so that all learners start from the same one.
    """

    decoder: Decoder
    seed: int

    @property
    def backbone(self) -> Backbone:
        """The base model."""
        return self.decoder.backbone

    def new_policy(self, name: str) -> AdapterPolicy:
        """A policy with a new adapter, which changes nothing yet."""
        own = fresh_adapter(self.backbone.layers, self.backbone.settings, stream(self.seed, "adapter"))
        return AdapterPolicy(name, self.decoder, own)


def token_logprobs(policy: Policy, hidden_BTH: Tensor, rollout: Rollout) -> Tensor:
    """(B, T) log-probabilities of the rollout's tokens under these hidden states, 0 where masked (`models.readout`)."""
    return response_logprobs(policy.logits, hidden_BTH, rollout, policy.memory.block_bytes)
