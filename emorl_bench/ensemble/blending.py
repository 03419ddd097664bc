"""Where M experts can be averaged while they decode one shared prefix.

`HiddenState` is EMORL's (2505.02579, section 3.2). Because the head is linear and shared it gives exactly the logits of
`Logits`, at the price of one head projection instead of M; `Logits` is multi-objective decoding (MOD, 2406.18853) up to
a constant. `Probabilities` is a mixture of distributions and a different policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Generator, Policy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.policies.bank import on_one_base
from emorl_bench.policies.decode import Head

Mixing = Callable[[Tensor, Tensor, Head], Tensor]  # hidden (M, W, R, H), weights (W, M), head -> logits (W, R, V)


def mix_hidden_states(hidden_MWRH: Tensor, weights_WM: Tensor, head: Head) -> Tensor:
    return head(torch.einsum("mwrh,wm->wrh", hidden_MWRH, weights_WM.to(hidden_MWRH)))


def mix_logits(hidden_MWRH: Tensor, weights_WM: Tensor, head: Head) -> Tensor:
    logits_MWRV = head(hidden_MWRH)
    return torch.einsum("mwrv,wm->wrv", logits_MWRV, weights_WM.to(logits_MWRV))


def mix_probabilities(hidden_MWRH: Tensor, weights_WM: Tensor, head: Head) -> Tensor:
    """Log of the weighted mean distribution; weights are brought to sum 1."""
    logps_MWRV = head(hidden_MWRH).log_softmax(-1)
    weights_WM = (weights_WM / weights_WM.sum(1, keepdim=True)).to(logps_MWRV)
    return torch.logsumexp(logps_MWRV + weights_WM.T.log()[:, :, None, None], dim=0)


@dataclass(frozen=True)
class MixedReadout:
    """Reads W weight vectors off M experts' hidden states."""

    weights_WM: Tensor
    mixing: Mixing

    @property
    def copies(self) -> int:
        return len(self.weights_WM)

    @property
    def blocks(self) -> int:
        return len(self.weights_WM)

    def __call__(self, hidden_NRH: Tensor, head: Head) -> Tensor:
        hidden_MWRH = hidden_NRH.view(len(hidden_NRH), self.copies, -1, hidden_NRH.shape[-1])
        return self.mixing(hidden_MWRH, self.weights_WM.to(hidden_NRH.device), head).flatten(0, 1)


@dataclass(frozen=True)
class Blend:
    """M experts in lockstep on one prefix for each of W weight vectors."""

    experts: Sequence[Policy]
    readout: MixedReadout

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        decoder, adapters = on_one_base(self.experts)
        return decoder(adapters, examples, sampling, rng, self.readout)


@dataclass(frozen=True)
class HiddenState:
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator:
        return Blend(experts, MixedReadout(weights_WM, mix_hidden_states))


@dataclass(frozen=True)
class Logits:
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator:
        return Blend(experts, MixedReadout(weights_WM, mix_logits))


@dataclass(frozen=True)
class Probabilities:
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator:
        return Blend(experts, MixedReadout(weights_WM, mix_probabilities))
