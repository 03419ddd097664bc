"""The run directory: the record of one run, which the same command finds again.

Its path is ``runs/<task>/<model>/<method>/s<seed>-<hash8>``. The hash covers everything that can change the numbers, so
the same command finds what it did before. A run that is ``done`` is skipped; any other continues from its last
checkpoint; ``force`` starts afresh. A lock, which the operating system releases with its process, tells a live run from
one that was killed. Of several ranks only the first locks and writes.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from emorl_bench.core.atomic import remove_left_over, write_json, write_text
from emorl_bench.core.damage import refused
from emorl_bench.core.errors import UserError
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.progress import Report
from emorl_bench.runner.identity import identity, place, read_json, summary_if_done
from emorl_bench.runner.provenance import code_diff, provenance
from emorl_bench.runner.recorded import check_regular

log = logging.getLogger(__name__)

BEAT_EVERY = 5.0  # seconds


class RunDirectory:
    """A context manager: entering it takes the lock and reads what is there, leaving it releases the lock.

    ``done`` means that nothing is left to do, ``resumed`` that an earlier session left something.
    """

    def __init__(
        self, config: Mapping[str, Any], fingerprint: str, overrides: Sequence[str] = (), ranks: Ranks = ALONE
    ) -> None:
        """Find the place of a run.

        Args:
            config: the plain, resolved configuration.
            fingerprint: the hash of data, scorers and model (`runner.fingerprints.fingerprint`).
            overrides: what the command line has overridden, for the record.
            ranks: the processes that share the run.
        """
        self.config, self.overrides, self.ranks = config, list(overrides), ranks
        self.hash = identity(config, fingerprint)[:8]
        self.path = place(config, fingerprint)
        self.done = self.resumed = False
        self.share: Callable[[], float | None] = lambda: None
        """How much of its budget the run has spent; None: unknown, or no limit."""
        self._status: dict[str, Any] = {}
        self._beaten = 0.0

    def __enter__(self) -> RunDirectory:
        """Take the lock.

        Raises:
            UserError: another run uses the directory, or it cannot be written.
        """
        self.done, self.resumed = self.ranks.once(self._enter)
        return self

    def _enter(self) -> tuple[bool, bool]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(self._busy()) from None
        except OSError as error:
            raise UserError(
                f"runs_dir={self.config['runs_dir']}: cannot write {self.path} ({error.strerror})"
            ) from None
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self.done, self.resumed

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Record an error, if there was one, and release the lock."""
        try:
            if error is not None:
                self.fail(_reason(error))
        except OSError as unwritten:  # a full disk: what the user must see is the first error, not this one
            log.warning("status.json cannot be written (%s)", unwritten.strerror)
        finally:
            if self.ranks.first:
                self._lock.release()

    def _open(self) -> None:
        if not self.config["force"]:
            check_regular(self.path)
        remove_left_over(self.path)
        before = self.read_json("status.json") or {}
        if self.config["force"]:
            self._wipe()
        elif summary_if_done(self.path) is not None:
            self.done = True
            return
        else:
            self.resumed = bool(before)
        machine = self.config["hardware"]
        session = provenance(machine["threads"], machine["device"], self.ranks.count)
        sessions = (self.read_json("provenance.json") or {}).get("sessions") if self.resumed else None
        earlier = sessions if isinstance(sessions, list) else []
        write_json(self.path / "provenance.json", {"hash": self.hash, "sessions": [*earlier, session]})
        write_text(self.path / "code.diff", code_diff())
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(self.config))))
        write_text(self.path / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(self.overrides)))
        self.note(state="running", phase="start", error=None, pid=os.getpid(), host=socket.gethostname())

    def note(self, **changes: Any) -> None:
        """Update ``status.json``, such as ``phase="search"``. The time is recorded as a heartbeat."""
        if not self.ranks.first:
            return
        self._beaten = time.monotonic()
        if "phase" in changes:
            changes = {"doing": None, "tokens_per_second": None} | changes
        self._status |= {**changes, "share": self.share(), "heartbeat": time.time()}
        write_json(self.path / "status.json", self._status)

    def beat(self) -> None:
        """Record that the run is alive. Cheap enough to call at every step."""
        if time.monotonic() - self._beaten > BEAT_EVERY:
            self.note()

    def report(self, report: Report) -> None:
        """Note how far the current work has come. It is written with the next heartbeat."""
        self._status |= {"doing": report.label, "tokens_per_second": report.tokens_per_second}
        if report.reward is not None:
            self._status["reward"] = report.reward
        self.beat()

    def finish(self) -> None:
        """Record that the run is done."""
        self.note(state="done", phase="done", error=None)

    def fail(self, error: str) -> None:
        """Record that the run failed, unless it was done before."""
        if not self.done:
            self.note(state="failed", error=error)

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the directory; only the first rank does."""
        if self.ranks.first:
            write_json(self.path / name, value)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in a file, or None where there is no complete one."""
        return read_json(self.path / name)

    def _busy(self) -> str:
        status = self.read_json("status.json") or {}
        ago = max(0.0, time.time() - status.get("heartbeat", time.time()))
        who = f"process {status.get('pid')} on {status.get('host')}, last heard of {ago:.0f} s ago"
        return f"{self.path} is in use by another run ({who}); wait for it, or stop it and repeat the command"

    def _wipe(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == ".lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _reason(error: BaseException) -> str:
    """Why a run ended, for its record: ``interrupted``, with the name of the signal where there was one."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted by {error}" if str(error) else "interrupted"
    return refused(error) or f"{type(error).__name__}: {error}"
