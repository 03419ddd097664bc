"""Hydra's sweeper ``grid``: every combination of the given values, and a list of the failed jobs at the end.

Hydra's own sweeper stops at the first failure that it finds, and shows its traceback.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from emorl_bench.launch.hooks import hooks
from emorl_bench.launch.job_process import words
from emorl_bench.launch.slots import gpus_to_ask

SUBMITIT = "hydra_submitit_launcher"

Jobs = Sequence[Sequence[str]]  # the overrides of each job


class Grid(Sweeper):
    """Runs all batches of ``max_batch_size`` jobs. If jobs failed, it then exits with code 1 and one line for each."""

    def __init__(self, max_batch_size: int | None, params: Mapping[str, Any] | None) -> None:
        """``max_batch_size``: jobs that the launcher is given at once; ``None`` is all.

        ``params``: KEY: VALUE,VALUE.
        """
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Build the launcher."""
        self.hydra_context, self.config = hydra_context, config
        launcher = config.hydra.launcher
        if SUBMITIT in str(launcher._target_) and (gpus := gpus_to_ask(launcher, config.hardware)) is not None:
            with open_dict(config):
                launcher.gpus_per_node = gpus
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination.

        Raises:
            SystemExit: a job or the launcher failed.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        directory = Path(self.config.hydra.sweep.dir)
        directory.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, directory / "multirun.yaml")
        returns: list[JobReturn] = []
        for batch in self._batches(overrides):
            returns += self._launch(batch, len(returns))
        hooks.ended(returns)
        common = set.intersection(*(set(job.overrides or []) for job in returns)) if len(returns) > 1 else set()
        failed = [f"  {_line(job, common)}" for job in returns if job.status == JobStatus.FAILED]
        if failed:
            raise SystemExit("\n".join([f"{len(failed)} of {len(returns)} jobs failed:", *failed]))
        return [returns]

    def _batches(self, overrides: Sequence[Override]) -> Iterator[Jobs]:
        choices = {
            override.get_key_element(): _choices(override) for override in overrides
        }  # the last override of a key counts
        jobs = list(itertools.product(*choices.values()))
        size = self.max_batch_size or len(jobs)
        for first in range(0, len(jobs), size):
            yield [list(job) for job in jobs[first : first + size]]

    def _launch(self, batch: Jobs, first: int) -> Sequence[JobReturn]:
        assert self.launcher is not None
        assert self.hydra_context is not None
        assert self.config is not None
        try:
            if getattr(self.launcher, "tells", False):
                return self.launcher.launch(batch, initial_job_idx=first)
            from emorl_bench.launch import followed  # imports rich, which no other command needs

            return followed.launch(self.launcher, self.hydra_context, self.config, batch, first)
        except Exception as error:  # an error of the launcher itself, such as a missing cluster or a killed worker
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            name = type(self.launcher).__name__
            raise SystemExit(f"emorl-bench: {name}: {words(error)} (HYDRA_FULL_ERROR=1 shows where)") from error


def _choices(override: Override) -> list[str]:
    if not override.is_discrete_sweep():
        return [str(override.input_line)]
    values = list(override.sweep_string_iterator())
    distinct = list(dict.fromkeys(values))
    if len(distinct) < len(values):
        print(f"{override.input_line}: equal values are run once", flush=True)
    return [f"{override.get_key_element()}={value}" for value in distinct]


def _line(job: JobReturn, common: Set[str]) -> str:
    """A failed job: the overrides that not all jobs have, and its error."""
    apart = [line for line in filter_overrides(job.overrides or []) if line not in common]
    return f"{' '.join(apart)}: {words(job._return_value)}"
