"""Hydra's launcher ``processes``: every job of a sweep in an operating-system process of its own.

So a job's peak memory is its own, a crash (a kill, no memory left) costs one job, and jobs run side by side. Importing
torch and transformers takes longer than a small job, so jobs are forked from a server that has imported them and done
nothing else: it has one thread and no state, which is what makes the fork safe.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from emorl_bench.core.errors import UserError
from emorl_bench.runner.compose import VERSION_BASE

TARGET = "hydra_plugins.emorl_bench.Processes"  # Hydra admits plugins under this package only
PRELOAD = ["emorl_bench.runner.job"]
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PATIENCE = 5.0  # seconds an interrupted job has to write down that it was


@dataclass
class _Running:
    number: int
    overrides: list[str]
    process: BaseProcess
    result: Connection
    log: Path
    started: float

    @property
    def words(self) -> str:
        return " ".join(filter_overrides(self.overrides))


class Processes(Launcher):
    """Runs ``workers`` jobs at a time; one that fails is reported and the rest goes on."""

    def __init__(self, workers: int = 2) -> None:
        self.workers = max(1, min(workers, os.cpu_count() or 1))
        self.finished: list[float] = []  # seconds
        self.failures: list[str] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logs = Path(str(self.config.hydra.sweep.dir)).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        total = len(job_overrides)
        print(f"{total} jobs, {self.workers} at a time; their output: {logs}", flush=True)
        waiting = [(initial_job_idx + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
        running: list[_Running] = []
        returns: dict[int, JobReturn] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    running.append(self._start(*waiting.pop(0), logs))
                ready = wait([job.result for job in running])
                for job in [job for job in running if job.result in ready]:
                    running.remove(job)
                    returns[job.number] = self._finish(job, total)
        finally:
            _stop(running)
        if self.failures:
            print(f"{len(self.failures)} of {total} jobs failed:\n" + "\n".join(self.failures), file=sys.stderr)
            raise SystemExit(1)
        return [returns[number] for number in sorted(returns)]

    def _start(self, number: int, overrides: list[str], logs: Path) -> _Running:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        log = logs / f"{number}.log"
        result, sender = multiprocessing.Pipe(duplex=False)
        arguments = (self.task_function, self.hydra_context, config, log, sender)
        process = _context().Process(target=_job, args=arguments, name=f"job-{number}")
        process.start()
        sender.close()  # so that the other end reads end-of-file when the job dies without a word
        return _Running(number, overrides, process, result, log, time.monotonic())

    def _finish(self, job: _Running, total: int) -> JobReturn:
        try:
            state, value = job.result.recv()
        except EOFError:
            job.process.join()
            state, value = "failed", _death(job.process.exitcode)
        job.process.join()
        seconds = time.monotonic() - job.started
        self.finished.append(seconds)
        line = f"[{len(self.finished)}/{total}] {state} {job.words} ({seconds:.0f} s{self._left(total)})"
        if state == "done":
            print(line, flush=True)
            return JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=value)
        print(f"{line}: {value}", flush=True)
        self.failures.append(f"  {job.words}: {value} (output: {job.log})")
        return JobReturn(overrides=job.overrides, status=JobStatus.FAILED, _return_value=RuntimeError(value))

    def _left(self, total: int) -> str:
        left = (total - len(self.finished)) * sum(self.finished) / len(self.finished) / self.workers
        if total == len(self.finished):
            return ""
        return f", about {left:.0f} s left" if left < 100 else f", about {left / 60:.0f} min left"


def register() -> None:
    """Make ``hydra/launcher=processes`` known to Hydra; safe to call again."""
    plugins = Plugins.instance()
    plugins.register(Processes)
    plugins.class_name_to_class[TARGET] = Processes


def _context() -> Any:
    """Forked from a warm server where the system has one, started afresh elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    for name in ONE_THREAD:  # read when the server imports torch: it must not have threads when it forks
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _job(task: TaskFunction, context: HydraContext, config: DictConfig, log: Path, result: Connection) -> None:
    """In the job's process: run, and send one message home."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("a", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    version.setbase(VERSION_BASE)
    setup_globals()
    message: tuple[str, Any] = ("failed", "interrupted")
    try:
        outcome = run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        message = ("done", outcome.return_value)
    except UserError as error:
        message = ("failed", " ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        message = ("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        sys.stdout.flush()
        result.send(message)


def _end_with_parent() -> None:
    """A job whose sweep was killed must not go on behind the user's back, holding the lock of its directory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stop(running: Sequence[_Running]) -> None:
    """Ctrl-C reaches the jobs as well: let them write it down, then end what is left."""
    deadline = time.monotonic() + PATIENCE
    for job in running:
        if job.process.pid is not None and job.process.is_alive():
            os.kill(job.process.pid, signal.SIGINT)
    for job in running:
        job.process.join(max(0.1, deadline - time.monotonic()))
        if job.process.is_alive():
            job.process.kill()
            job.process.join()


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {exitcode}"
