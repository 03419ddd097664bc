"""Sessions of `emorl-bench`: one process each, which is watched, killed, and asked how it ended.

A session is a fork of this process, which has imported the program and done nothing else; so no session spends seconds
on imports. Where ``apart`` is asked for, it is an interpreter of its own, as a user starts one.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.survival.writes import Death, Hook

ROOM = 1 << 20  # bytes of output that a pipe holds; a session writes a few thousand
TICK = 0.004  # seconds between two looks at a session
PROGRAM = "emorl-bench"
RUNS = "runs"  # every session has a working directory of its own, in which this is the same path


@dataclass
class Session:
    """A session that is running, or has ended."""

    pid: int
    output: int  # the end of a pipe that standard output and standard error go to

    @classmethod
    def start(
        cls, place: Path, arguments: Sequence[str], death: Death | None = None, record: Path | None = None
    ) -> Session:
        """Start a session in a working directory.

        Args:
            place: the working directory.
            arguments: the command line.
            death: where it dies by itself.
            record: where its writes are recorded.
        """
        return cls._forked(lambda: play(place, arguments, death, record))

    @classmethod
    def apart(cls, place: Path, arguments: Sequence[str], record: Path | None = None) -> Session:
        """Start a session as an interpreter of its own."""
        told = json.dumps([str(place), list(arguments), None, record and str(record)])
        program = [sys.executable, "-m", "studies.survival.session", told]
        return cls._forked(lambda: os.execve(program[0], program, environment()))

    @classmethod
    def sweep(cls, place: Path, arguments: Sequence[str]) -> Session:
        """Start a sweep, whose jobs have processes of their own."""
        program = [sys.executable, "-m", "emorl_bench.cli", "-m", *arguments]

        def execute() -> None:
            os.chdir(place)
            os.execve(program[0], program, environment())

        return cls._forked(execute)

    @classmethod
    def _forked(cls, work: Callable[[], Any]) -> Session:
        ours, theirs = os.pipe()
        _widen(theirs)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _become(theirs, work)
        os.close(theirs)
        return cls(pid, ours)

    def ended(self, after: float = 0.0) -> int | None:
        """The exit status, once the process has ended; below 0 the number of the signal that ended it.

        Args:
            after: seconds to wait for the end; infinite for as long as it takes.
        """
        deadline = time.monotonic() + after
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                return None
            time.sleep(TICK)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not gone(self.pid)

    def after(self, seconds: float) -> bool:
        """Wait until the process has computed for so long; False where it has ended before."""
        while _computed(self.pid) < seconds:
            if not self.alive:
                return False
            time.sleep(TICK)
        return self.alive

    def send(self, number: int) -> None:
        """Send a signal to the process; SIGKILL goes to all that it has started in its session as well."""
        with suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    def said(self) -> list[str]:
        """The lines of output, once the process has ended."""
        os.set_blocking(self.output, False)
        parts: list[bytes] = []
        with suppress(BlockingIOError):
            while part := os.read(self.output, ROOM):
                parts.append(part)
        os.close(self.output)
        return b"".join(parts).decode("utf-8", "replace").splitlines()


def environment() -> dict[str, str]:
    """The environment of programs: this package is found, and a tiny model has one thread."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def play(place: Path, arguments: Sequence[str], death: Death | None = None, record: Path | None = None) -> None:
    """Run the program in this process, and end the process."""
    from emorl_bench.cli.bench import main

    os.chdir(place)
    file = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    hook = Hook(os.path.join(os.path.realpath(RUNS), ""), file, death)
    if death is not None or record is not None:
        hook.install()
    sys.argv = [PROGRAM, *arguments]
    main()
    hook.end()


def warm() -> None:
    """Import what sessions need, before they are forked."""
    import emorl_bench.cli.bench
    import emorl_bench.runner.job  # noqa: F401


def _become(output: int, work: Callable[[], Any]) -> None:
    """Runs in the new process, and never returns."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _widen(pipe: int) -> None:
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, ROOM)


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/<pid>/stat`` from the state on; none where the process is gone.

    Raises:
        OSError: the system has no ``/proc``.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if not Path("/proc/self/stat").exists():
            raise OSError(
                errno.ENOENT, "the study reads the time of processes there, as Linux has it", "/proc"
            ) from None
        return []


def _computed(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = _stat(pid)
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked for its end."""
    fields = _stat(pid)
    return not fields or fields[0] == "Z"


def main(told: str) -> None:
    """Run the program as `Session.apart` has told."""
    place, arguments, death, record = json.loads(told)
    play(Path(place), arguments, death and Death(**death), record and Path(record))


if __name__ == "__main__":
    main(sys.argv[1])
