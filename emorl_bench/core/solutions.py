"""The simplest `Solution`s: one policy for every preference, either the only one or the best of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from emorl_bench.core.protocols import Sampler
from emorl_bench.core.types import Metrics


@dataclass(frozen=True)
class OnePolicy:
    """One policy for every preference."""

    policy: Sampler

    def policy_for(self, preference_K: Tensor) -> Sampler:
        """The policy, whatever the preference (K,)."""
        return self.policy


@dataclass(frozen=True)
class Candidate:
    """A policy that could be deployed alone. ``select`` holds its mean scores on the select split."""

    policy: Sampler
    select: Metrics


@runtime_checkable
class HasCandidates(Protocol):
    """A `Solution` whose policies are also graded one by one, at the uniform preference."""

    @property
    def members(self) -> Mapping[str, Candidate]:
        """The policies by name."""


@runtime_checkable
class Choosing(Protocol):
    """A `Solution` that chooses among its answers with the scorers.

    Only held-out scorers and gold can then judge it.
    """

    @property
    def chooses_with_scorers(self) -> bool:
        """Whether it does so."""


@dataclass(frozen=True)
class BestCandidate:
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
