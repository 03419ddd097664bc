"""Standard output and error that cannot stop a program: what a terminal cannot show is escaped, and a reader may leave.

``emorl-bench | head -1`` closes the pipe after one line. The results of a run are in its directory, so it goes on
without a word.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

STREAMS = ("stdout", "stderr")
_gone: set[int] = set()  # descriptors that nobody reads any more


class _Tolerant(io.RawIOBase):
    """A descriptor. After its first failure, what is written to it is dropped."""

    def __init__(self, descriptor: int, *, goes_on: bool) -> None:
        self._descriptor, self._goes_on = descriptor, goes_on

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int | None:
        if self._descriptor in _gone:
            return memoryview(data).nbytes
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return None  # a descriptor that does not block, as io.RawIOBase.write defines it
        except OSError as error:
            self._leave(error)
            return memoryview(data).nbytes

    def _leave(self, error: OSError) -> None:
        _gone.add(self._descriptor)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._descriptor)  # for libraries and child processes, which write there too
        if error.errno == errno.EPIPE:
            return
        if not self._goes_on:
            raise error
        if sys.stderr.fileno() != self._descriptor:
            print(f"the output cannot be written ({error.strerror}); the run goes on", file=sys.stderr, flush=True)


def tolerate(*, goes_on: bool = False) -> None:
    """Make standard output and error of this process tolerant. Streams that something has replaced stay as they are.

    Args:
        goes_on: the program goes on where the output cannot be written for another reason than a reader who left, such
            as a full disk. That is right for a run, whose results are in files.
    """
    for name in STREAMS:
        stream: Any = getattr(sys, name)
        if stream is None:  # closed from the beginning, as with ``>&-``
            setattr(sys, name, open(os.devnull, "w", errors="replace"))  # noqa: SIM115 (stays open)
        elif stream is getattr(sys, f"__{name}__") and not isinstance(_raw(stream), _Tolerant):
            setattr(sys, name, _tolerant(stream, goes_on))


def reader_left() -> bool:
    """Whether nobody reads the standard output any more."""
    return isinstance(_raw(sys.stdout), _Tolerant) and sys.stdout.fileno() in _gone


def _tolerant(stream: io.TextIOWrapper, goes_on: bool) -> io.TextIOWrapper:
    stream.flush()
    buffered = io.BufferedWriter(_Tolerant(stream.fileno(), goes_on=goes_on))
    return io.TextIOWrapper(
        buffered, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering or stream.isatty(),
        write_through=stream.write_through,
    )  # fmt: skip


def _raw(stream: Any) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)
