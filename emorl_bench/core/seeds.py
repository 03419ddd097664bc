"""Random streams, found by name.

Every random draw takes a generator whose seed follows from its purpose (``stream(seed, "expert", "rollout", 12)``), not
from earlier draws. So a resumed run equals an uninterrupted one although no state of a generator is saved, and an
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
    """A CPU generator for one purpose, seeded by `seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, *names))
