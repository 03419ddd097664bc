"""How M experts are averaged while they decode one shared prefix.

`HiddenState` is EMORL's aggregation (2505.02579, section 3.2). Because all experts share one linear head, it gives
exactly the logits of `Logits`, at the price of one head projection instead of M. `Logits` is multi-objective decoding
(MOD, 2406.18853) up to a constant. `Probabilities` mixes distributions, and is a different policy.

Shapes: R rows were read by the model, and L of them (with repetitions) are mixed; V is the vocabulary.
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
    """(M, L, V) logits of the rows ``row_L`` of the hidden states (M, R, H); each row is projected only once."""
    rows, place_L = torch.unique(row_L, return_inverse=True)
    return head(hidden_MRH[:, rows])[:, place_L]


def weighted(values_MLX: Tensor, weights_LM: Tensor) -> Tensor:
    """(L, X) weighted sums over experts of values (M, L, X), with one weight vector for each row."""
    return (values_MLX * weights_LM.T.to(values_MLX)[:, :, None]).sum(0)


@dataclass(frozen=True)
class Blend:
    """M experts that decode one shared prefix in step, for each of W weight vectors; rows are weight-major."""

    experts: Sequence[Policy]
    weights_WM: Tensor
    mixing: Mixing

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`; there are W times as many rows."""
        decoder, adapters = on_one_base(self.experts)
        return decoder.decode_blend(adapters, self.weights_WM, self.mixing, examples, sampling, rng)


@dataclass(frozen=True)
class HiddenState(Aggregator, Mixing):
    """Experts are averaged in their last hidden states, before the head (EMORL 2505.02579, section 3.2)."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor:
        """(L, H) weighted sums of the hidden states."""
        return weighted(hidden_MRH[:, row_L], weights_LM)

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """(L, V) logits of the weighted sums."""
        return head(self.states(hidden_MRH, row_L, weights_LM))


@dataclass(frozen=True)
class Logits(Aggregator, Mixing):
    """Experts are averaged in their logits, as in multi-objective decoding (MOD, 2406.18853)."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> None:
        """None, although `HiddenState` has states with these logits: with them this would be `HiddenState`."""

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """(L, V) weighted sums of the experts' logits."""
        return weighted(of_rows(hidden_MRH, row_L, head), weights_LM)


@dataclass(frozen=True)
class Probabilities(Aggregator, Mixing):
    """Experts are averaged in their distributions over the next token."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> None:
        """None: no hidden state has this distribution."""

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """(L, V) logarithm of the weighted mean distribution; weights are scaled to sum 1."""
        logps_MLV = of_rows(hidden_MRH, row_L, head).log_softmax(-1)
        weights_LM = (weights_LM / weights_LM.sum(1, keepdim=True)).to(logps_MLV)
        return torch.logsumexp(logps_MLV + weights_LM.T.log()[:, :, None], dim=0)
