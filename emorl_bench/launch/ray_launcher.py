"""Hydra's launcher ``ray``: the jobs of a sweep as Ray tasks, on this machine or on a running cluster.

It uses Ray's public interface only. The published plugin needs Amazon's libraries and outdated versions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from emorl_bench.launch.job_process import PATIENCE, Outcome, Work, attempt, hydra_job, redirect, words
from emorl_bench.launch.process_launcher import job_return
from emorl_bench.launch.slots import Hardware
from emorl_bench.launch.sweep_job import SweepJob, announcement, sweep_jobs

ONCE = {
    "max_calls": 1,
    "max_retries": 0,
}  # a worker ends with its job, so each job has a process and a memory peak of its own


@dataclass(frozen=True)
class _Started:
    job: SweepJob
    log: Path


class Ray(Launcher):
    """Runs each job as a task of a Ray cluster."""

    tells = True
    """It tells how its jobs stand, so the sweeper need not do so."""

    def __init__(self, address: str, local: Mapping[str, Any], job: Mapping[str, Any]) -> None:
        """Keep the settings of the cluster.

        Args:
            address: ``local`` for a cluster that ends with the sweep; else the address of a running one.
            local: options of ``ray.init`` for a local cluster.
            job: resources of each job, in the words of ``ray.remote``: num_cpus, num_gpus, resources. With ``num_gpus``
                None a job gets one GPU where the cluster has any, and no job of the batch is on a CPU only.
        """
        self.address, self.local, self.job = address, dict(local), dict(job)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives to a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs of a batch, and return how each ended, in the order given."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
        import ray

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logs = Path(str(self.config.hydra.sweep.dir)).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        whole = sweep_jobs(self.hydra_context, self.config, job_overrides, initial_job_idx)
        jobs: dict[Any, _Started] = {}
        ray.init(address=self.address, log_to_driver=False, **(self.local if self.address == "local" else {}))
        try:
            has = ray.cluster_resources()
            resources = resources_of(self.job, has, [job.config.hardware for job in whole])
            remote = ray.remote(**resources, **ONCE)(_in_worker)
            for job in whole:
                work = partial(hydra_job, self.task_function, self.hydra_context, job.config)
                log = logs / f"{job.number}.log"
                jobs[remote.remote(work, Path.cwd(), log)] = _Started(job, log)
            slots = at_once(resources, has)
            print(announcement(job_overrides, slots, logs), flush=True)
            return self._gather(jobs, slots)
        except KeyboardInterrupt:
            for job in jobs:
                ray.cancel(job)
            ray.wait(list(jobs), num_returns=len(jobs), timeout=PATIENCE)  # time to record the interruption
            raise
        finally:
            ray.shutdown()

    def _gather(self, jobs: Mapping[Any, _Started], slots: int) -> Sequence[JobReturn]:
        import ray

        from emorl_bench.launch.followed import watched
        from emorl_bench.launch.sweep_progress import SweepProgress

        returns, left, own = {}, list(jobs), [started.job for started in jobs.values()]
        with SweepProgress(own, slots) as progress, watched(progress, own, ends=False):
            while left:
                (ended,), left = ray.wait(left)
                started, (outcome, seconds) = jobs[ended], _ending(ended)
                progress.ended(started.job, outcome, seconds)
                returns[ended] = job_return(started.job.overrides, outcome, started.log)
        return [returns[job] for job in jobs]


def resources_of(job: Mapping[str, Any], cluster: Mapping[str, float], hardware: Sequence[Hardware]) -> dict[str, Any]:
    """The resources of each job, with ``num_gpus`` decided."""
    if job.get("num_gpus") is not None:
        return dict(job)
    wanted = cluster.get("GPU", 0) >= 1 and any(one.get("device") != "cpu" for one in hardware)
    return {**job, "num_gpus": int(wanted)}


def at_once(resources: Mapping[str, Any], cluster: Mapping[str, float]) -> int:
    """How many jobs the cluster runs at a time."""
    limits = [cluster.get("CPU", 1) / (resources.get("num_cpus") or 1)]
    if gpus := resources.get("num_gpus"):
        limits.append(cluster.get("GPU", 0) / gpus)
    return max(1, int(min(limits)))


def _in_worker(work: Work, directory: Path, log: Path) -> tuple[Outcome, float]:
    os.chdir(directory)  # relative paths such as runs_dir start where the sweep was started
    redirect(log)
    started = time.monotonic()
    return attempt(work), time.monotonic() - started


def _ending(ended: Any) -> tuple[Outcome, float]:
    import ray

    try:
        ending: tuple[Outcome, float] = ray.get(ended)
    except ray.exceptions.WorkerCrashedError:  # the time of the job is lost with its worker
        return ("failed", "its worker was killed (out of memory?)"), 0.0
    except ray.exceptions.RayError as error:
        return ("failed", words(error)), 0.0
    return ending
