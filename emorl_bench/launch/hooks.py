"""What a program adds to its sweeps. Launchers know nothing of run directories and reports, which lie above them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from emorl_bench.launch.run_value import RunValue


def _nothing(*_: object) -> None:
    return None


@dataclass
class Hooks:
    """Each hook does nothing until a program sets it."""

    done_before: Callable[[DictConfig], RunValue | None] = _nothing
    """The value of a job that was done before, from its whole configuration; None: unknown, so the job is started."""
    seconds: Callable[[DictConfig], float | None] = _nothing
    """Seconds that a job may take, from recorded runs; None: unknown."""
    ended: Callable[[Sequence[JobReturn]], None] = _nothing
    """Called once, with all jobs of a sweep."""


hooks = Hooks()
"""The hooks of this process."""
