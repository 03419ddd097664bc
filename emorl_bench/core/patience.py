"""A time limit for code that comes with data, such as the chat template of a model, which may loop for hours."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from emorl_bench.core.errors import UserError


@contextmanager
def at_most(seconds: float, what: str) -> Iterator[None]:
    """Surrounds Python code that must end soon.

    Only the main thread can be interrupted, and a timer of somebody else is left alone: there is no limit then.

    Args:
        seconds: the limit, in real time.
        what: the code, for the message.

    Raises:
        UserError: the block took longer.
    """
    mine = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not mine or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise UserError(f"{what} does not end within {seconds:g} seconds; mend it, or do without it")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
