"""Where M experts can be averaged while they decode one shared prefix.

`HiddenState` is EMORL's (2505.02579, section 3.2). Because the head is linear and shared it gives exactly the logits of
`Logits`, at the price of one head projection instead of M; `Logits` is multi-objective decoding (MOD, 2406.18853) up to
a constant. `Probabilities` is a mixture of distributions and a different policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.mixing import Head, Mixing
from emorl_bench.policies.together import on_one_base


def of_rows(hidden_MRH: Tensor, row_L: Tensor, head: Head) -> Tensor:
    """(M, L, V) logits of these rows, each projected once."""
    rows, place_L = torch.unique(row_L, return_inverse=True)
    return head(hidden_MRH[:, rows])[:, place_L]


def weighted(values_MLX: Tensor, weights_LM: Tensor) -> Tensor:
    return (values_MLX * weights_LM.T.to(values_MLX)[:, :, None]).sum(0)


@dataclass(frozen=True)
class Blend:
    """M experts in lockstep on one prefix for each of W weight vectors."""

    experts: Sequence[Policy]
    weights_WM: Tensor
    mixing: Mixing

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        decoder, adapters = on_one_base(self.experts)
        return decoder.decode_blend(adapters, self.weights_WM, self.mixing, examples, sampling, rng)


@dataclass(frozen=True)
class HiddenState(Aggregator):
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor:
        return weighted(hidden_MRH[:, row_L], weights_LM)

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        return head(self.states(hidden_MRH, row_L, weights_LM))


@dataclass(frozen=True)
class Logits(Aggregator):
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> None:
        return None  # there are: those of `HiddenState`, which is what makes it the cheaper form of the same

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        return weighted(of_rows(hidden_MRH, row_L, head), weights_LM)


@dataclass(frozen=True)
class Probabilities(Aggregator):
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> None:
        return None

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """Log of the weighted mean distribution; weights are brought to sum 1."""
        logps_MLV = of_rows(hidden_MRH, row_L, head).log_softmax(-1)
        weights_LM = (weights_LM / weights_LM.sum(1, keepdim=True)).to(logps_MLV)
        return torch.logsumexp(logps_MLV + weights_LM.T.log()[:, :, None], dim=0)
