"""The simplest `Solution`: one policy whatever the preference."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Generator


@dataclass(frozen=True)
class OnePolicy:
    policy: Generator

    def policy_for(self, preference_K: Tensor) -> Generator:
        return self.policy
