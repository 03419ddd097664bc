"""What a program adds to its sweeps. Launchers know nothing of run directories and reports, which lie above them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from emorl_bench.config.once import Known
from emorl_bench.launch.run_value import RunValue


def _unknown(configs: Sequence[DictConfig]) -> list[None]:
    return [None] * len(configs)


def _none(configs: Sequence[DictConfig]) -> list[str]:
    return []


def _nothing(*_: object) -> None:
    return None


@dataclass
class Hooks:
    """Each hook does nothing until a program sets it."""

    done_before: Callable[[Sequence[DictConfig]], Sequence[RunValue | None]] = _unknown
    """The values of jobs that were done before, from their whole configurations; None: start the job, and see."""
    seconds: Callable[[DictConfig], float | None] = _nothing
    """Seconds that a job may take, from recorded runs; None: unknown."""
    modules: Callable[[Sequence[DictConfig]], Sequence[str]] = _none
    """Modules that these jobs import in the course of their work, so that they can be imported once for all."""
    ended: Callable[[Sequence[JobReturn]], None] = _nothing
    """Called once, with all jobs of a sweep."""
    composed: Known = field(default_factory=dict)
    """Configurations of jobs that were composed when the command line was checked."""


hooks = Hooks()
"""The hooks of this process."""
