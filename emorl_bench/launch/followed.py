"""A sweep under a launcher that tells nothing: basic, joblib, submitit.

Such a launcher returns when all of its jobs have ended. What they do meanwhile is in their run directories, on every
machine that shares them. So a thread reads these records, and tells what the launcher ``processes`` tells by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from emorl_bench.launch.hooks import hooks
from emorl_bench.launch.job_process import Outcome, words
from emorl_bench.launch.records import Records
from emorl_bench.launch.sweep_job import SweepJob, announcement, sweep_jobs
from emorl_bench.launch.sweep_progress import SweepProgress

TICK = 2.0  # seconds between two looks at the records
TERMINAL = ("basic", "joblib")  # launchers whose jobs write to the terminal, so that a table would be in their way


def launch(
    launcher: Launcher, context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Run the jobs of a batch that were not done before, tell of them, and return how each ended, in the order given.

    Args:
        launcher: what Hydra has built.
        context: what Hydra has given to the sweeper.
        config: the configuration of the sweep.
        overrides: those of each job.
        first: the number of the first job.
    """
    jobs = sweep_jobs(context, config, overrides, first)
    name = str(config.hydra.runtime.choices["hydra/launcher"])
    places, logs = _at_once(name, config.hydra.launcher, len(jobs)), Path(str(config.hydra.sweep.dir)).resolve()
    print(announcement(overrides, places, None if name in TERMINAL else logs / ".submitit"), flush=True)
    returns: dict[int, JobReturn] = {}
    with SweepProgress(jobs, places, live=name not in TERMINAL) as progress:
        for job, value in zip(jobs, hooks.done_before([job.config for job in jobs]), strict=True):
            if value is not None:
                progress.ended(job, ("done", value))
                done = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=value)
                returns[job.number] = done
        waiting = [job for job in jobs if job.number not in returns]
        if waiting:
            with watched(progress, waiting):
                ended = launcher.launch([job.overrides for job in waiting], initial_job_idx=first)
            for job, found in zip(waiting, ended, strict=True):
                returns[job.number] = found
                progress.ended(job, _outcome(found))
    return [returns[job.number] for job in jobs]


@contextmanager
def watched(progress: SweepProgress, jobs: Sequence[SweepJob], *, ends: bool = True) -> Iterator[None]:
    """Read the records of these jobs for as long as the block runs, and pass on what they say.

    Args:
        progress: what tells it.
        jobs: those that the launcher starts.
        ends: also tell of jobs that end; False: the launcher does that.
    """
    over, records = threading.Event(), Records(jobs)

    def watch() -> None:
        while not over.wait(TICK):
            for job, status in records.look():
                progress.recorded(job, status)
                outcome = records.outcome(job, status) if ends else None
                if outcome is not None:
                    progress.ended(job, outcome)
            progress.tick()

    thread = threading.Thread(target=watch, name="watch the runs of a sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _at_once(name: str, launcher: Any, jobs: int) -> int:
    """How many jobs run at a time, as far as the launcher's configuration says it."""
    if name == "basic":
        return 1
    limit = launcher.get("n_jobs") or launcher.get("array_parallelism") or jobs
    cores = os.cpu_count() or 1
    return max(1, min(jobs, limit if limit > 0 else cores + 1 + limit))  # joblib counts down from all cores: -1


def _outcome(ended: JobReturn) -> Outcome:
    value = ended._return_value
    return ("done", value) if ended.status == JobStatus.COMPLETED else ("failed", words(value))
