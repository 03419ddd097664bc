"""The writes of a run, found by recording them, and a death inside of any of them.

An audit hook of Python sees every file that is opened for writing and every rename, before they happen. What a write
leaves on disk depends on the moment of death only:

- ``before``: nothing of it is there;
- ``inside``: half of its bytes are there, in the temporary file or at the end of the file that is appended to;
- ``written``: all bytes are in the temporary file, which is not yet renamed;
- ``after``: the write is complete, and nothing came after it.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import TEMPORARY

POINTS = ("before", "inside", "written", "after")
FULL = "full"  # the disk is full in the middle of the write, and stays full: a limit of the size of files
WRITING = os.O_WRONLY | os.O_RDWR
APPENDED, RENAMED = " +", " ="  # ends of kinds: written at the end of a file; another file that got a new name
HASHED = re.compile(r"^[0-9a-f]{16}(?=\.json$)")


@dataclass(frozen=True)
class Death:
    """Where a run dies: at which point of the n-th write of a kind. ``bytes``: the size of the write, for `FULL`."""

    kind: str
    number: int
    point: str
    bytes: int = 0


@dataclass
class Hook:
    """Follows the writes below a directory. It records them in a file, and dies in one where a death is given."""

    root: str
    record: int | None = None  # a file descriptor
    death: Death | None = None
    seen: Counter[str] = field(default_factory=Counter)
    dying: bool = False  # the next event of any kind is the death
    appended: tuple[str, str, int] | None = None  # kind, path and former size of the last file that was appended to

    def install(self) -> None:
        """From here on the process is followed; there is no way back."""
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See `sys.addaudithook`."""
        if self.dying:
            self.dying = False  # the signal is an event too
            _die()
        if event == "open":
            self._opened(*arguments)
        elif event == "os.rename":
            self._renamed(*arguments[:2])

    def end(self) -> None:
        """Record the last file that was appended to."""
        self._close()

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(flags, int) or not flags & WRITING:
            return
        place = os.path.abspath(os.fspath(path))
        if not isinstance(place, str) or not place.startswith(self.root):
            return
        self._close()
        temporary = TEMPORARY.fullmatch(os.path.basename(place))
        appends = temporary is None and bool(flags & os.O_APPEND)
        kind = kind_of(temporary["name"] if temporary else os.path.basename(place), appends=appends)
        if appends:
            self.appended = kind, place, _size(place)
        self._at(kind, "before")
        if temporary is None and not appends:
            self._count(kind, 0)  # a lock, which has no content

    def _renamed(self, source: Any, target: Any) -> None:
        place, old = os.path.abspath(os.fspath(target)), os.path.abspath(os.fspath(source))
        if not place.startswith(self.root):
            return
        self._close()
        size, temporary = _size(old), TEMPORARY.fullmatch(os.path.basename(old))
        kind = kind_of(os.path.basename(place)) + ("" if temporary else RENAMED)
        if temporary and self._is_now(kind, "inside"):
            os.truncate(old, size // 2)
            _die()
        self._at(kind, "written")
        self.dying = self._is_now(kind, "after")
        self._count(kind, size)

    def _close(self) -> None:
        """The last append is over, because something else is written."""
        if self.appended is None:
            return
        (kind, place, before), self.appended = self.appended, None
        size = _size(place) - before
        if self._is_now(kind, "inside"):
            os.truncate(place, before + size // 2)
            _die()
        self._at(kind, "after")
        self._count(kind, size)

    def _at(self, kind: str, point: str) -> None:
        if self._is_now(kind, point):
            _die()
        if point == "before" and self._is_now(kind, FULL) and self.death is not None:
            before = 0 if self.appended is None else self.appended[2]
            most = max(1, before + self.death.bytes // 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def _is_now(self, kind: str, point: str) -> bool:
        return self.death is not None and (kind, self.seen[kind], point) == (
            self.death.kind,
            self.death.number,
            self.death.point,
        )

    def _count(self, kind: str, size: int) -> None:
        self.seen[kind] += 1
        if self.record is not None:
            os.write(self.record, f"{kind}\t{size}\n".encode())


def kind_of(name: str, *, appends: bool = False) -> str:
    """The kind of a write, by the name of its file: names that are hashes are one kind."""
    return HASHED.sub("*", name) + (APPENDED if appends else "")


def recorded(path: Path) -> dict[str, list[int]]:
    """The sizes of all writes, by kind."""
    found: dict[str, list[int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, size = line.split("\t")
        found.setdefault(kind, []).append(int(size))
    return found


def points(kind: str, sizes: list[int]) -> list[str]:
    """The points at which a write of a kind can be interrupted, with different things on disk."""
    if not any(sizes):
        return ["before"]
    if kind.endswith(RENAMED):
        return ["written", "after"]
    return ["before", "inside", "after"] if kind.endswith(APPENDED) else list(POINTS)


def _size(path: str) -> int:
    return os.stat(path).st_size if os.path.exists(path) else 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
