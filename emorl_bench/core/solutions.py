"""The simplest `Solution`s: one policy whatever the preference, alone or the best of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from emorl_bench.core.protocols import Generator
from emorl_bench.core.types import Metrics


@dataclass(frozen=True)
class OnePolicy:
    policy: Generator

    def policy_for(self, preference_K: Tensor) -> Generator:
        return self.policy


@dataclass(frozen=True)
class Member:
    """A policy that could be deployed alone; ``select``: what it scored on the select split as it is now."""

    policy: Generator
    select: Metrics


@runtime_checkable
class Grouped(Protocol):
    """A `Solution` with policies that are graded one by one beside what is deployed, at the uniform preference."""

    @property
    def members(self) -> Mapping[str, Member]: ...


@runtime_checkable
class Choosing(Protocol):
    """A `Solution` whose answers are chosen by the scorers themselves: these are no judge of it, held-out ones are."""

    @property
    def chooses_with_scorers(self) -> bool: ...


@dataclass(frozen=True)
class OneOf:
    """One of several policies whatever the preference."""

    members: Mapping[str, Member]
    deployed: str

    @property
    def policy(self) -> Generator:
        return self.members[self.deployed].policy

    def policy_for(self, preference_K: Tensor) -> Generator:
        return self.policy
