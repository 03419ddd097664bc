"""The configuration of each job of a sweep is composed once: it is checked before Hydra starts, and run after that.

Composing takes a tenth of a second. Jobs that differ only in their seed share a composition: a seed chooses no other
file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf import DictConfig

SEED = re.compile(r"seed=(\d+)")
Known = dict[tuple[str, ...], DictConfig]
"""What is composed already, by `entry_of`. Whoever takes an entry sets the seed."""


def entry_of(hydra: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """What decides a composition: the overrides of Hydra's own node, then those of the job, without its seed."""
    return (*hydra, *("seed" if SEED.fullmatch(line) else line for line in own))


def seed_of(own: Sequence[str]) -> int | None:
    """The seed that the overrides of a job name; None: they name none."""
    seeds = [int(match[1]) for line in own if (match := SEED.fullmatch(line))]
    return seeds[-1] if seeds else None


def is_hydra(line: str) -> bool:
    """Whether an override changes Hydra's own node, as Hydra decides it."""
    return line.lstrip("+~").startswith(("hydra.", "hydra/"))
