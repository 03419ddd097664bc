"""The base model as it is: no reinforcement learning, the zero of every scale."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy


@dataclass(frozen=True)
class Base:
    def fit(self, bench: Bench) -> Solution:
        return OnePolicy(bench.new_policy("base").reference())
