"""The simplest solutions: one policy for every preference, either the only one or the best of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.protocols import Candidate, Sampler, Solution


@dataclass(frozen=True)
class OnePolicy(Solution):
    """One policy for every preference."""

    policy: Sampler

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """The policy, whatever the preference (K,)."""
        return self.policy


@dataclass(frozen=True)
class BestCandidate(Solution):
    """One of several policies, for every preference."""

    members: Mapping[str, Candidate]
    deployed: str

    @property
    def policy(self) -> Sampler:
        """The deployed policy."""
        return self.members[self.deployed].policy

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """The deployed policy, whatever the preference (K,)."""
        return self.policy

    def graded_alone(self) -> Mapping[str, Candidate]:
        """All of the policies."""
        return self.members
