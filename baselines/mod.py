"""Multi-objective decoding (MOD, 2406.18853): experts' next-token distributions as a weighted geometric mean.

``log pi(y_t) = sum_m w_m log pi_m(y_t) + const`` on one shared prefix. This is the paper's rule for the KL divergence
under weights that sum to 1, where the reference policy drops out. Log-probabilities are logits up to a constant, so
this is the same distribution that `blending.HiddenState` decodes. MOD makes M head projections and normalisations for
each token, where `HiddenState` makes one.

Against the release: one decode loop serves all methods, in which samples share prefixes. There are no other
f-divergences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.decoding.mixing import Head, Mixing
from emorl_bench.ensemble.blending import Blend, of_rows, weighted


@dataclass(frozen=True)
class Mod(Aggregator, Mixing):
    """The weighted geometric mean of the experts' distributions."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return Blend(experts, weights_WM, self)

    def states(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> None:
        """None: without states of its own, MOD is an independent check of `HiddenState`."""

    def logits(self, hidden_MRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """See `decoding.mixing.Mixing.logits`; log-probabilities of all experts, weighted and summed."""
        logits_MLV = of_rows(hidden_MRH, row_L, head)
        exact = torch.promote_types(logits_MLV.dtype, torch.float32)
        return weighted(logits_MLV.to(exact).log_softmax(-1), weights_LM)
