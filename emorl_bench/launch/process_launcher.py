"""Hydra's launcher ``processes``: every job of a sweep has an operating-system process; several run at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from emorl_bench.launch.job_process import JobFailed, JobProcess, Outcome, hydra_job, stop


@dataclass
class _Running:
    job: JobProcess
    number: int
    overrides: list[str]
    log: Path
    started: float


class Processes(Launcher):
    """Runs ``workers`` jobs at a time. A job that fails is reported, and the others go on."""

    def __init__(self, workers: int = 2) -> None:
        """``workers``: jobs at a time; never more than there are cores."""
        self.workers = max(1, min(workers, os.cpu_count() or 1))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives to a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs of a batch, and return how each ended, in the order given."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logs = Path(str(self.config.hydra.sweep.dir)).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        total = len(job_overrides)
        print(f"{total} jobs, {self.workers} at a time; their output: {logs}", flush=True)
        progress = SweepProgress(total, self.workers)
        waiting = [(initial_job_idx + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
        running: list[_Running] = []
        returns: dict[int, JobReturn] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    running.append(self._start(*waiting.pop(0), logs))
                ready = wait([entry.job.result for entry in running])
                for entry in [entry for entry in running if entry.job.result in ready]:
                    running.remove(entry)
                    outcome = entry.job.outcome()
                    progress.line(entry.overrides, outcome, time.monotonic() - entry.started)
                    returns[entry.number] = job_return(entry.overrides, outcome, entry.log)
        finally:
            stop([entry.job for entry in running])
        return [returns[number] for number in sorted(returns)]

    def _start(self, number: int, overrides: list[str], logs: Path) -> _Running:
        config = sweep_config(self.hydra_context, self.config, overrides, number)
        log = logs / f"{number}.log"
        job = JobProcess.start(partial(hydra_job, self.task_function, self.hydra_context, config), log)
        return _Running(job, number, overrides, log, time.monotonic())


def sweep_config(context: HydraContext, master: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """The whole configuration of one job."""
    config = context.config_loader.load_sweep_config(master, list(overrides))
    with open_dict(config):
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    return config


class SweepProgress:
    """Prints one line for each job that ends, with an estimate of the time left."""

    def __init__(self, total: int, workers: int) -> None:
        """``total`` jobs, of which ``workers`` run at a time."""
        self.total, self.workers = total, workers
        self.seconds: list[float] = []  # seconds of the jobs that have ended

    def line(self, overrides: Sequence[str], outcome: Outcome, seconds: float) -> None:
        """Print the line of a job that took this many seconds."""
        self.seconds.append(seconds)
        state, value = outcome
        why = f": {value}" if state == "failed" else ""
        count = f"[{len(self.seconds)}/{self.total}]"
        chosen = " ".join(filter_overrides(overrides))
        print(f"{count} {state} {chosen} ({seconds:.0f} s{self._left()}){why}", flush=True)

    def _left(self) -> str:
        left = (self.total - len(self.seconds)) * sum(self.seconds) / len(self.seconds) / self.workers
        if self.total == len(self.seconds):
            return ""
        return f", about {left:.0f} s left" if left < 100 else f", about {left / 60:.0f} min left"


def job_return(overrides: Sequence[str], outcome: Outcome, log: Path) -> JobReturn:
    """The end of a job in Hydra's form."""
    state, value = outcome
    if state == "done":
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
    failure = JobFailed(f"{value} (output: {log})")
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=failure)
