"""Random streams by name.

Every stochastic act draws from a generator that is seeded by what it is for (``stream(seed, "expert", "rollout", 12)``)
and not by what happened before it. So a resumed run equals an uninterrupted one without saving generator states, and an
expert does not depend on the order in which experts are trained.
"""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(seed_for(seed, *names))
