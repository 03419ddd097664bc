"""The base model as it is: no reinforcement learning, the zero of every scale."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy


@dataclass(frozen=True)
class Base:
    """The base model, unchanged."""

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`; nothing is trained."""
        return OnePolicy(bench.new_policy("base").reference())
