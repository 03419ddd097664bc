"""Experts that are merged into one policy before it decodes: what such rules share, and how merges are decoded.

The rules are pages of `baselines`. A low-rank rule gives a low-rank merge, so several merges are decoded side by side.
A rule that acts on single entries gives a merge of full rank (`ensemble.dense`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy, Sampler
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.lora import Adapter
from emorl_bench.policies.together import concatenated, on_one_base


class Merge(Protocol):
    """How M adapters become one. Weights are not negative; an expert of weight 0 has no part in it."""

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The merge of the adapters by the weights (M,)."""

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""


@dataclass(frozen=True)
class SideBySide:
    """W weighted sums of the experts' updates, decoded in one batch; rows are weight-major.

    Each is the exact merge ``sum_m w_m B_m A_m`` (`models.lora.merge`).
    """

    experts: Sequence[Policy]
    weights_WM: Tensor

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`; there are W times as many rows."""
        decoder, adapters = on_one_base(self.experts)
        return decoder.decode_policies(adapters, self.weights_WM, [examples] * len(self.weights_WM), sampling, [rng])


@dataclass(frozen=True)
class OneByOne:
    """W merged policies that are merged and decoded one after the other; rows are weight-major.

    Side by side each row would pay for all W merges of full rank. Each has the same random numbers, as in every blend.
    """

    experts: Sequence[Policy]
    weights_WM: Tensor
    merge: Merge

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        """See `core.protocols.Sampler.generate`; there are W times as many rows."""
        decoder, adapters = on_one_base(self.experts)
        start, rollouts = rng.get_state(), []
        for weights_M in self.weights_WM:
            rng.set_state(start)
            one = self.merge.merged(adapters, weights_M)
            rollouts.append(decoder.decode_policies([one], None, [examples], sampling, [rng]))
        if len(rollouts) == 1:
            return rollouts[0]
        return replace(concatenated(rollouts), group_size=sampling.samples_per_prompt)


def check_share(key: str, value: float, *, zero: bool, one: bool) -> None:
    """Check a setting of a rule that is a share.

    Raises:
        UserError: ``value`` is not between 0 and 1; ``zero`` and ``one`` say whether these two are allowed.
    """
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        low, high = "from 0" if zero else "above 0", "up to 1" if one else "to below 1"
        raise UserError(f"method.aggregator.{key}={value}: give a number {low} {high}")
