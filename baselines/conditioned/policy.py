"""A policy for every preference: experts' adapters mixed layer by layer, as a network says that reads the preference.

Layer l adds ``sum_i c_li(w) B_i A_i`` to the base's weight, and a small network makes the coefficients c of a
preference w. The experts are frozen; the network alone is trained. The mix is one adapter, its factors stacked along
the rank, exact as `lora.merge` is. Coefficients scale B, so the gradients of whatever is made of the hidden states
reach the network, and any update rule trains it as it would train an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.lora import Adapter, active
from emorl_bench.policies.adapter_policy import AdapterPolicy, BackbonePolicy
from emorl_bench.policies.together import on_one_base

FILE = "network.safetensors"


def mixed(adapters: Sequence[Adapter], weights_LM: Tensor) -> Adapter:
    """The exact merge with weights of its own for each layer, in the order of ``factors``; differentiable in them."""
    factors = {}
    for (name, _), weights_M in zip(adapters[0].factors.items(), weights_LM, strict=True):
        pairs = [adapter.factors[name] for adapter in adapters]
        a = torch.cat([a.detach() for a, _ in pairs], dim=0)
        b = torch.cat([b.detach() * weight for (_, b), weight in zip(pairs, weights_M, strict=True)], dim=1)
        factors[name] = a, b
    return Adapter(factors, adapters[0].scale)


@dataclass
class Asked:
    """The preferences that are learnt under now, and which of them each prompt was answered under."""

    preferences_WK: Tensor
    of: dict[str, int] = field(default_factory=dict)  # id of the prompt -> row


@dataclass(frozen=True)
class ConditionedPolicy(BackbonePolicy):
    """``network``: a preference (K,) to coefficients (L, M). Its adapter in the sense of `core.protocols.Policy`, what
    is trained and kept, is the network.

    While it learns it stands under several preferences at once, each for an even part of the prompts (`turn`).
    """

    experts: Sequence[Adapter]
    network: nn.Module
    asked: Asked

    @classmethod
    def of(cls, name: str, experts: Sequence[Policy], network: nn.Module) -> ConditionedPolicy:
        """One expert for each objective; it begins under the uniform preference."""
        decoder, adapters = on_one_base(experts)
        device = decoder.backbone.device
        uniform_WK = torch.full((1, len(adapters)), 1 / len(adapters), device=device)
        return cls(name, decoder, adapters, network.to(device), Asked(uniform_WK))

    def turn(self, preferences_WK: Tensor) -> None:
        """What is generated from now on, and learnt from that, is under these preferences."""
        self.asked.preferences_WK = preferences_WK.to(self.asked.preferences_WK)
        self.asked.of.clear()

    def mix(self, preference_K: Tensor) -> Adapter:
        """Differentiable in the network."""
        return mixed(self.experts, self.network(preference_K))

    @torch.no_grad()
    def at(self, preference_K: Tensor) -> AdapterPolicy:
        """What it is now under a preference: one adapter, one forward pass for each token."""
        return AdapterPolicy(self.name, self.decoder, self.mix(preference_K.to(self.asked.preferences_WK)))

    @torch.no_grad()
    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """The first of W even parts of the prompts under the first preference, and so on."""
        preferences_WK = self.asked.preferences_WK
        count, each = len(preferences_WK), len(examples) // len(preferences_WK)
        parts = [examples[i * each : (i + 1) * each] for i in range(count)]
        self.asked.of.update({example.id: i for i, part in enumerate(parts) for example in part})
        seeds = torch.randint(2**62, (count,), generator=rng).tolist()
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        return self.decoder.decode_policies([self.mix(p_K) for p_K in preferences_WK], None, parts, sampling, rngs)

    def hidden(self, rollout: Rollout) -> Tensor:
        """(B, T, H): each row under the preference that its prompt was answered under, one pass for each."""
        width = rollout.response_ids_BT.shape[1]
        found: dict[int, Tensor] = {}
        for i, preference_K in enumerate(self.asked.preferences_WK):
            rows = [row for row, example in enumerate(rollout.examples) if self.asked.of[example.id] == i]
            if rows:
                with active(self.backbone.layers, (self.mix(preference_K),)):
                    hidden_RTH = self.backbone.forced([rollout.rows(rows)])
                hidden_RTH = pad(hidden_RTH, (0, 0, 0, width - hidden_RTH.shape[1]))
                found |= dict(zip(rows, hidden_RTH, strict=True))
        return torch.stack([found[row] for row in range(len(rollout.examples))])

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.network.parameters()

    def trained(self) -> dict[str, Tensor]:
        return dict(self.network.state_dict())

    def save(self, path: Path) -> None:
        """Write the network; its metadata say which layers its rows belong to."""
        path.mkdir(parents=True, exist_ok=True)
        told = {"layers": json.dumps(list(self.experts[0].factors)), "base_fingerprint": self.base}
        save_file({k: v.cpu().contiguous() for k, v in self.adapter().items()}, path / FILE, metadata=told)
