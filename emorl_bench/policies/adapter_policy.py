"""Every policy of a run is an adapter of one base model in memory.

The reference policy is the base with its adapters off; it is never a second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, active, fresh_adapter
from emorl_bench.policies.peft_io import save_adapter


@dataclass(frozen=True)
class AdapterPolicy:
    """A `core.protocols.Policy`: one adapter on a shared base; ``own`` is None for the reference policy."""

    name: str
    decoder: Decoder
    own: Adapter | None

    @property
    def backbone(self) -> Backbone:
        return self.decoder.backbone

    @property
    def base(self) -> str:
        return self.backbone.fingerprint

    @property
    def ranks(self) -> Ranks:
        return self.decoder.ranks

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        return () if self.own is None else (self.own,)

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """Answer each prompt ``samples_per_prompt`` times; rows are prompt-major."""
        return self.decoder.decode_policies(self.adapters, None, [examples], sampling, [rng])

    def hidden(self, rollout: Rollout) -> Tensor:
        """(B, T, H) the hidden state that each response token is predicted from; gradients reach the adapter."""
        with active(self.backbone.layers, self.adapters):
            return self.backbone.forced([rollout])

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """(B, T, V), in the model's dtype."""
        return self.backbone.head(hidden_BTH)

    def logprobs(self, rollout: Rollout) -> Tensor:
        """(B, T) log-probabilities of the rollout's tokens at its temperature, 0 where masked; differentiable."""
        return token_logprobs(self.logits(self.hidden(rollout)), rollout)

    def tokenize_responses(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) of given answers, each with the end token added."""
        return self.backbone.response_ids(texts)

    def is_eos(self, ids_BT: Tensor) -> Tensor:
        """(B, T): which tokens are end tokens."""
        return self.backbone.is_eos(ids_BT)

    def truncates(self, text: str) -> bool:
        """Whether a prompt is longer than the model reads."""
        return self.backbone.reader.truncates(text)

    def reference(self) -> AdapterPolicy:
        """The base model without an adapter."""
        return AdapterPolicy("reference", self.decoder, None)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What an optimiser trains; nothing for the reference."""
        return iter(()) if self.own is None else self.own.parameters()

    def trained(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name; not copies."""
        return {} if self.own is None else self.own.tensors()

    def adapter(self) -> dict[str, Tensor]:
        """Copies of the tensors that training changes, by name."""
        return {k: v.clone() for k, v in self.trained().items()}

    @torch.no_grad()
    def load_adapter(self, adapter: Mapping[str, Tensor]) -> None:
        """Overwrite this policy's adapter in place.

        Raises:
            UserError: names or shapes belong to another base model or another adapter shape.
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

    def save(self, path: Path) -> None:
        """Write an adapter directory of PEFT: adapter_config.json and adapter_model.safetensors."""
        if self.own is not None:
            save_adapter(path, self.adapter(), self.backbone)


@dataclass(frozen=True)
class AdapterBank:
    """Makes policies on one base model. ``seed`` fixes the initial adapter: every learner starts at the same point."""

    decoder: Decoder
    seed: int

    @property
    def backbone(self) -> Backbone:
        return self.decoder.backbone

    def new_policy(self, name: str) -> AdapterPolicy:
        """A policy with a fresh adapter, which changes nothing yet."""
        own = fresh_adapter(self.backbone.layers, self.backbone.settings, stream(self.seed, "adapter"))
        return AdapterPolicy(name, self.decoder, own)


def on_one_base(experts: Sequence[Policy]) -> tuple[Decoder, list[Adapter]]:
    """The adapters of several experts and the decoder they share.

    Raises:
        UserError: they are not adapters of one loaded base model, so they cannot be averaged.
    """
    own = [expert for expert in experts if isinstance(expert, AdapterPolicy)]
    adapters = [expert.own for expert in own if expert.own is not None]
    if len(adapters) < len(experts) or any(expert.decoder is not own[0].decoder for expert in own):
        names = ", ".join(expert.name for expert in experts)
        raise UserError(f"experts {names}: only adapters of the same loaded base model can be blended")
    return own[0].decoder, adapters


def hidden_together(policies: Sequence[Policy], rollouts: Sequence[Rollout]) -> Tensor:
    """(M, B, T, H): `AdapterPolicy.hidden` of each policy on its own rollout, in one pass; T is the longest of all.

    Several policies must satisfy `policies.together.can_stack`, and the rollouts must have the same number of rows.
    """
    if len(policies) == 1:
        return policies[0].hidden(rollouts[0])[None]
    decoder, adapters = on_one_base(policies)
    with active(decoder.backbone.layers, adapters):
        hidden = decoder.backbone.forced(rollouts)
    return hidden.unflatten(0, (len(rollouts), -1))


def token_logprobs(logits_BTV: Tensor, rollout: Rollout) -> Tensor:
    """(B, T) log-probabilities of a rollout's tokens under these logits at its temperature, 0 where masked."""
    logits_BTV = logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()
    logits_BTV = logits_BTV / rollout.temperature
    chosen_BT = logits_BTV.gather(-1, rollout.response_ids_BT[..., None]).squeeze(-1)
    return (chosen_BT - logits_BTV.logsumexp(-1)) * rollout.response_mask_BT
