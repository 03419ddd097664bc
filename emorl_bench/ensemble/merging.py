"""Averaging experts' weights: rewarded soups (2306.04488), exact.

The merge is ``sum_m w_m B_m A_m`` on the base, kept in low-rank form by stacking the factors. PEFT's "linear" adapter
average is not this: it multiplies averages and so adds cross terms ``B_i A_j``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.protocols import Aggregator, Generator, Policy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.lora import Adapter, merge
from emorl_bench.policies.adapter_policy import on_one_base


@dataclass(frozen=True)
class Merges:
    """W merged policies decoded side by side, rows weight-major."""

    experts: Sequence[Policy]
    weights_WM: Tensor

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        decoder, adapters = on_one_base(self.experts)
        return decoder.decode_policies(adapters, self.weights_WM, [examples] * len(self.weights_WM), sampling, [rng])


@dataclass(frozen=True)
class Parameters(Aggregator):
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator:
        return Merges(experts, weights_WM)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        return merge(adapters, weights_M)
