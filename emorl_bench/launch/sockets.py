"""A place for the sockets between processes, whose paths the system limits to about a hundred bytes."""

from __future__ import annotations

import os
import tempfile
from multiprocessing import util

from emorl_bench.core.errors import UserError

LONGEST = 103  # bytes of a socket's path that macOS takes; Linux takes 107
NAME = len("/pymp-abcdefgh/listener-abcdefgh")
SHORT = ("/tmp", "/var/tmp", "/dev/shm", "/run/shm")


def choose_place() -> None:
    """Let multiprocessing put its sockets where their paths fit, if they do not fit below ``TMPDIR``.

    Everything else still uses ``TMPDIR``.

    Raises:
        UserError: there is no directory with a short path that can be written.
    """
    usual = tempfile.gettempdir()
    if _fits(usual):
        return
    short = next((place for place in SHORT if os.access(place, os.W_OK | os.X_OK)), None)
    if short is None:
        raise UserError(f"TMPDIR={usual}: too long for a socket's path; set TMPDIR to a directory with a short path")
    tempfile.tempdir = short
    try:
        util.get_temp_dir()  # made once for each process, and removed at its end
    finally:
        tempfile.tempdir = usual


def _fits(place: str) -> bool:
    return len(os.fsencode(place)) + NAME <= LONGEST
