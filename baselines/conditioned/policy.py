"""A policy for every preference: experts' adapters mixed layer by layer, by a network that reads the preference.

Layer l adds ``sum_i c_li(w) B_i A_i`` to the base's weight, and a small network gives the coefficients c of a
preference w. The experts are frozen, and only the network is trained. The mix is one adapter whose factors are stacked
along the rank, as exact as `lora.merge`. The coefficients scale B. So gradients reach the network through the hidden
states, and any update rule trains it as it would train an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from emorl_bench.core.protocols import Policy
from emorl_bench.core.tensor_file import write_tensors
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.lora import Adapter, active
from emorl_bench.policies.adapter_policy import AdapterPolicy, BackbonePolicy
from emorl_bench.policies.together import on_one_base

FILE = "network.safetensors"


def mixed(adapters: Sequence[Adapter], weights_LM: Tensor) -> Adapter:
    """The exact merge of M adapters with other weights in each layer; differentiable in the weights.

    Args:
        adapters: adapters of one shape.
        weights_LM: the weights of each layer, in the order of ``factors``.
    """
    factors = {}
    for (name, _), weights_M in zip(adapters[0].factors.items(), weights_LM, strict=True):
        pairs = [adapter.factors[name] for adapter in adapters]
        a = torch.cat([a.detach() for a, _ in pairs], dim=0)
        b = torch.cat([b.detach() * weight for (_, b), weight in zip(pairs, weights_M, strict=True)], dim=1)
        factors[name] = a, b
    return Adapter(factors, adapters[0].scale)


@dataclass
class Asked:
    """The preferences that the policy learns under now, and the preference that each prompt was answered under.

    Attributes:
        preferences_WK: the preferences.
        of: the row of the preference by the id of the prompt.
    """

    preferences_WK: Tensor
    of: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ConditionedPolicy(BackbonePolicy):
    """A policy of frozen experts under a network that reads the preference.

    The network is what is trained and kept; it takes the part of the adapter in `core.protocols.Policy`. While the
    policy learns, it has several preferences at once, each for an even part of the prompts (`turn`).

    Attributes:
        experts: the adapters of the M experts.
        network: a module from a preference (K,) to coefficients (L, M).
        asked: the preferences of the moment.
    """

    experts: Sequence[Adapter]
    network: nn.Module
    asked: Asked

    @classmethod
    def of(cls, name: str, experts: Sequence[Policy], network: nn.Module) -> ConditionedPolicy:
        """A policy on one expert for each objective; it begins under the uniform preference.

        Raises:
            UserError: the experts are not adapters of one loaded base.
        """
        decoder, adapters = on_one_base(experts)
        device = decoder.backbone.device
        uniform_WK = torch.full((1, len(adapters)), 1 / len(adapters), device=device)
        return cls(name, decoder, adapters, network.to(device), Asked(uniform_WK))

    def turn(self, preferences_WK: Tensor) -> None:
        """Use these preferences (W, K) for all that is generated from now on, and for learning from it."""
        self.asked.preferences_WK = preferences_WK.to(self.asked.preferences_WK)
        self.asked.of.clear()

    def mix(self, preference_K: Tensor) -> Adapter:
        """The adapter of a preference (K,); differentiable in the network."""
        return mixed(self.experts, self.network(preference_K))

    @torch.no_grad()
    def at(self, preference_K: Tensor) -> AdapterPolicy:
        """The policy of the moment under one preference (K,): one adapter, one forward pass for each token."""
        return AdapterPolicy(self.name, self.decoder, self.mix(preference_K.to(self.asked.preferences_WK)))

    @torch.no_grad()
    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`.

        The prompts are divided into W even parts, and part w is answered under preference w.
        """
        preferences_WK = self.asked.preferences_WK
        count, each = len(preferences_WK), len(examples) // len(preferences_WK)
        parts = [examples[i * each : (i + 1) * each] for i in range(count)]
        self.asked.of.update({example.id: i for i, part in enumerate(parts) for example in part})
        seeds = torch.randint(2**62, (count,), generator=rng).tolist()
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        return self.decoder.decode_policies([self.mix(p_K) for p_K in preferences_WK], None, parts, sampling, rngs)

    def hidden(self, rollout: Rollout) -> Tensor:
        """See `core.protocols.Policy.hidden`; rows of different preferences take different forward passes."""
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
        """The parameters of the network."""
        return self.network.parameters()

    def trained(self) -> dict[str, Tensor]:
        """The tensors of the network by name."""
        return dict(self.network.state_dict())

    def save(self, path: Path) -> None:
        """Write the network to ``network.safetensors``; the metadata name the layers that its rows belong to."""
        told = {"layers": json.dumps(list(self.experts[0].factors)), "base_fingerprint": self.base}
        write_tensors(path / FILE, self.adapter(), told)
