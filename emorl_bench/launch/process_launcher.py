"""Hydra's launcher ``processes``: every job of a sweep has an operating-system process; several run at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from emorl_bench.launch.hooks import hooks
from emorl_bench.launch.job_process import PRELOAD, JobFailed, JobProcess, Outcome, hydra_job, stop
from emorl_bench.launch.slots import Slot, slots
from emorl_bench.launch.sweep_job import SweepJob, announcement, run_of, sweep_jobs

if TYPE_CHECKING:
    from emorl_bench.launch.sweep_progress import SweepProgress

TICK = 1.0  # seconds between two looks at the running jobs


@dataclass
class _Running:
    process: JobProcess
    job: SweepJob
    slot: Slot
    log: Path
    started: float


class Processes(Launcher):
    """Runs several jobs at a time, each in a place of its own (`slots`). A job that fails is reported, others go on."""

    tells = True
    """It tells how its jobs stand, so the sweeper need not do so."""

    def __init__(self, workers: int | None = None, workers_per_gpu: int = 1) -> None:
        """``workers``: jobs at a time; None: ``workers_per_gpu`` for each GPU, or two where there is none."""
        self.workers, self.workers_per_gpu = workers, workers_per_gpu

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives to a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs of a batch, and return how each ended, in the order given."""
        from emorl_bench.launch.sweep_progress import SweepProgress  # imports rich, which no other command needs

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logs = Path(str(self.config.hydra.sweep.dir)).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        jobs = sweep_jobs(self.hydra_context, self.config, job_overrides, initial_job_idx)
        places = slots(self.workers, self.workers_per_gpu, [job.config.hardware for job in jobs])
        gpus = len({slot.gpu for slot in places if slot.gpu is not None})
        print(announcement(job_overrides, len(places), logs, gpus), flush=True)
        PRELOAD.extend(sorted(set(hooks.modules([job.config for job in jobs])) - set(PRELOAD)))
        returns: dict[int, JobReturn] = {}
        with SweepProgress(jobs, len(places)) as progress:
            waiting = self._without_done(jobs, progress, returns, logs)
            self._run(waiting, places, progress, returns, logs)
        return [returns[number] for number in sorted(returns)]

    def _without_done(
        self, jobs: Sequence[SweepJob], progress: SweepProgress, returns: dict[int, JobReturn], logs: Path
    ) -> list[SweepJob]:
        """The jobs that are to be started. Those that were done before need no process."""
        waiting, values = [], hooks.done_before([job.config for job in jobs])
        for job, value in zip(jobs, values, strict=True):
            if value is None:
                waiting.append(job)
                continue
            progress.ended(job, ("done", value))
            returns[job.number] = job_return(job.overrides, ("done", value), logs)
        return waiting

    def _run(
        self,
        waiting: list[SweepJob],
        free: list[Slot],
        progress: SweepProgress,
        returns: dict[int, JobReturn],
        logs: Path,
    ) -> None:
        running: list[_Running] = []
        runs = {job.number: run_of(job.config) for job in waiting}
        try:
            while waiting or running:
                while free and (job := _next(waiting, running, runs)):
                    waiting.remove(job)
                    running.append(self._start(job, free.pop(0), progress, logs))
                ready = wait([entry.process.result for entry in running], TICK)
                progress.tick()
                for entry in [entry for entry in running if entry.process.result in ready]:
                    running.remove(entry)
                    free.append(entry.slot)
                    outcome = entry.process.outcome()
                    progress.ended(entry.job, outcome, time.monotonic() - entry.started)
                    returns[entry.job.number] = job_return(entry.job.overrides, outcome, entry.log)
        finally:
            stop([entry.process for entry in running])

    def _start(self, job: SweepJob, slot: Slot, progress: SweepProgress, logs: Path) -> _Running:
        log, started = logs / f"{job.number}.log", time.monotonic()
        work = partial(hydra_job, self.task_function, self.hydra_context, job.config)
        process = JobProcess.start(work, log, slot.environment(job.config.hardware))
        progress.started(job, process.process.pid)
        return _Running(process, job, slot, log, started)


def _next(waiting: Sequence[SweepJob], running: Sequence[_Running], runs: Mapping[int, str]) -> SweepJob | None:
    """The first job whose run directory no running job writes; None: there is none now."""
    busy = {runs[entry.job.number] for entry in running}
    return next((job for job in waiting if runs[job.number] not in busy), None)


def job_return(overrides: Sequence[str], outcome: Outcome, log: Path) -> JobReturn:
    """The end of a job in Hydra's form."""
    state, value = outcome
    if state == "done":
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
    failure = JobFailed(f"{value} (output: {log})")
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=failure)
