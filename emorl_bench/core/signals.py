"""SIGTERM and SIGHUP end a run as Ctrl-C does, so that it records why it ended and closes its trackers.

Schedulers and ``kill`` send SIGTERM. A terminal that is closed sends SIGHUP.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal, whose name is the message."""


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside the block the signals raise `Terminated`. Only a main thread may set this up; elsewhere nothing changes.

    A signal that the process ignores, as ``nohup`` has it ignore SIGHUP, is still ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:  # a second one would end the closing that the first one has begun
        signal.signal(other, signal.SIG_IGN)
    raise Terminated(signal.Signals(number).name)
