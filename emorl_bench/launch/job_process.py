"""A process of its own for a job, so that its peak memory is its own and a crash costs one job only.

Importing torch and transformers takes longer than a small job. So the process is forked from a server that has imported
them and done nothing else. The server has one thread and no state, which makes the fork safe.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.utils import configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from emorl_bench.config.compose import VERSION_BASE
from emorl_bench.core.errors import UserError
from emorl_bench.core.terminal import tolerate
from emorl_bench.launch.sockets import choose_place

Work = Callable[[], Any]
Outcome = tuple[str, Any]  # ("done", value) or ("failed", words)

PRELOAD = ["emorl_bench.runner.job"]
"""What the server imports. What is added after the first job has no effect."""
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PATIENCE = 5.0  # seconds that an interrupted job has to record the interruption


class JobFailed(Exception):
    """A job ended without a value. The message is one line; the traceback is in the job's output."""


@dataclass
class JobProcess:
    """A job that runs in a process of its own.

    ``result`` becomes readable when the job has ended, for whatever reason.
    """

    process: BaseProcess
    result: Connection

    @classmethod
    def start(cls, work: Work, log: Path | None = None, environment: Mapping[str, str] | None = None) -> JobProcess:
        """Start a job. ``work`` and its value must be picklable.

        Args:
            work: what the job does.
            log: the file for the job's output; ``None``: the output of this process.
            environment: what the job's environment has beside this process's, such as the GPUs that it sees.
        """
        result, sender = multiprocessing.Pipe(duplex=False)
        process = _context().Process(target=_do, args=(work, {**os.environ, **(environment or {})}, log, sender))
        process.start()
        sender.close()  # then the other end reads end-of-file when the job dies without a message
        return cls(process, result)

    def outcome(self) -> Outcome:
        """Wait for the end of the job, and return what came of it."""
        try:
            outcome: Outcome = self.result.recv()
        except EOFError:
            self.process.join()
            return "failed", _death(self.process.exitcode)
        self.process.join()
        return outcome


def attempt(work: Work) -> Outcome:
    """Call ``work``, and return its value or its error in a form that any process can read.

    A traceback goes to the output of this process.
    """
    try:
        return "done", work()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return "failed", "interrupted"
    except Exception as error:
        if not isinstance(error, UserError | JobFailed):
            traceback.print_exc()
        return "failed", words(error)
    finally:
        sys.stdout.flush()


def redirect(log: Path) -> None:
    """Append all further output of this process to the file ``log``."""
    with log.open("a", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def words(error: BaseException) -> str:
    """An error as one line."""
    line = " ".join(str(error).split())
    return line if isinstance(error, UserError | JobFailed) else f"{type(error).__name__}: {line}"


def hydra_job(task: TaskFunction, context: HydraContext, config: DictConfig) -> Any:
    """One job of a sweep, in a process in which Hydra is not set up yet."""
    version.setbase(VERSION_BASE)
    setup_globals()
    return run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context).return_value


def run_apart(work: Work, logging: Any) -> Any:
    """Run a job in a process of its own, with Hydra's ``logging``, and wait for its value.

    Raises:
        JobFailed: the job ended without a value.
    """
    plain = OmegaConf.to_container(
        logging, resolve=True
    )  # pickling a node of a configuration would pickle its parents too
    job = JobProcess.start(partial(_logged, work, plain))
    try:
        state, value = job.outcome()
    finally:
        stop([job])
    if state == "failed":
        raise JobFailed(value)
    return value


def stop(jobs: Sequence[JobProcess]) -> None:
    """End the jobs that still run. Ctrl-C reaches them as well: they first get time to record the interruption."""
    deadline = time.monotonic() + PATIENCE
    for job in jobs:
        if job.process.pid is not None and job.process.is_alive():
            os.kill(job.process.pid, signal.SIGINT)
    for job in jobs:
        job.process.join(max(0.1, deadline - time.monotonic()))
        if job.process.is_alive():
            job.process.kill()
            job.process.join()


def _context() -> Any:
    """How processes are started: forked from a server that has imported torch where the system has one, else afresh."""
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    if (
        multiprocessing.get_start_method() not in methods
    ):  # joblib adds a method to its workers that no child process knows
        multiprocessing.set_start_method(method, force=True)
    if method == "spawn":
        return multiprocessing.get_context(method)
    choose_place()
    for name in ONE_THREAD:  # read when the server imports torch: it must not have threads when it forks
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(PRELOAD)
    return context


def _do(work: Work, environment: Mapping[str, str], log: Path | None, result: Connection) -> None:
    """Runs in the job's process: do the work, and send one message to the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)  # the server still has the environment of the first job
    if log is not None:
        redirect(log)
    tolerate(goes_on=True)
    result.send(attempt(work))


def _logged(work: Work, logging: Any) -> Any:
    configure_log(OmegaConf.create(logging))
    return work()


def _end_with_parent() -> None:
    """End a job whose sweep was killed. Otherwise it would go on unseen and hold the lock of its directory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {exitcode}"
