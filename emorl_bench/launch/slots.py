"""Places for the jobs of a sweep: each has a GPU of its own where there are any, or else its share of the cores.

A job is told of its place by its environment alone. It sees no other GPU, so ``cuda`` is the one it was given. GPUs are
counted by torch, in this process, without touching them; torch is imported only where the system shows a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_bench.config.hardware import CORES, cores, may_have_gpu, numbers_gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_CPUS = 2  # jobs at a time where there is no GPU and the user names no number
SLURM_SECONDS = 20

Hardware = Mapping[str, Any]
"""The node ``hardware`` of a job's configuration."""


@dataclass(frozen=True)
class Slot:
    """A place for one job at a time. ``gpu`` is its name in `VISIBLE`; None where the job gets none."""

    gpu: str | None
    cores: int

    def environment(self, hardware: Hardware) -> dict[str, str]:
        """What a job in this place needs. A job that names GPUs by number must see all of them."""
        own = {CORES: str(self.cores)}
        if self.gpu is not None and hardware.get("device") != "cpu" and not numbers_gpus(hardware):
            own[VISIBLE] = self.gpu
        return own


def slots(workers: int | None, per_gpu: int, jobs: Sequence[Hardware]) -> list[Slot]:
    """The places of a sweep on this machine.

    Args:
        workers: jobs at a time; None is ``per_gpu`` for each visible GPU, or `ON_CPUS`.
        per_gpu: jobs that share a GPU where ``workers`` is None.
        jobs: ``hardware`` of every job of the sweep.
    """
    gpus = visible_gpus() if any(job.get("device") != "cpu" for job in jobs) else []
    if gpus:
        count = min(workers or per_gpu * len(gpus), max(1, len(jobs)))
        return [Slot(gpus[i % len(gpus)], max(1, cores() // count)) for i in range(count)]
    count = min(workers or ON_CPUS, most_on_cpus(jobs), max(1, len(jobs)))
    return [Slot(None, max(1, cores() // count))] * count


def most_on_cpus(jobs: Iterable[Hardware]) -> int:
    """How many jobs can run at a time so that their threads are no more than the cores."""
    return max(1, cores() // max([job.get("threads") or 1 for job in jobs], default=1))


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that a job may use, by the names that `VISIBLE` takes: those in it already, or else 0, 1, ..."""
    given = environment.get(VISIBLE)
    named = [] if given is None else [name.strip() for name in given.split(",")]
    if given is not None and not named[0]:
        return []
    count = _count() if may_have_gpu() else 0
    return (named or [str(i) for i in range(count)])[:count]


def _count() -> int:
    import torch

    return torch.cuda.device_count()


def gpus_to_ask(launcher: Mapping[str, Any], hardware: Hardware) -> int | None:
    """``gpus_per_node`` for a launcher of submitit: 1 where there are GPUs and the user has asked for no number.

    Returns None where nothing is to be changed.
    """
    asked = ("gpus_per_node", "gpus_per_task", "gres")
    if hardware.get("device") == "cpu" or any(launcher.get(key) is not None for key in asked):
        return None
    if "Slurm" in str(launcher["_target_"]):
        return 1 if _slurm_has_gpus(launcher.get("partition")) else None
    return 1 if visible_gpus() else None


def _slurm_has_gpus(partition: str | None) -> bool:
    """Whether nodes of the partition, or of any where it is None, have GPUs as generic resources (``gres``)."""
    if shutil.which("sinfo") is None:
        return False
    command = ["sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else [])]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=SLURM_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False  # as without Slurm's answer: the user can still ask for a GPU by name
    return any(resource.split(":")[0] == "gpu" for line in said.split() for resource in line.split(","))
