"""What is on a disk and cannot be read or written, as one line: the file, what is wrong with it, and the remedy.

There are two boundaries. `reading` surrounds code that makes sense of a file: whatever it raises is damage of the file.
`system_limits` surrounds a whole program or job: what the operating system refuses (a full disk, a file that is a
directory, no memory) is no error of the program. Any other error passes both with its traceback.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError

AFRESH = "delete it, or say force=true to run afresh"

_ROOM = "free some space and repeat the command: the run continues"
_MEMORY = "memory is full: lower hardware.max_rows, update.micro_batch or hardware.threads, or use a larger machine"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f) and repeat the command",
    errno.EROFS: "choose a directory that can be written",
    errno.EACCES: "change its permissions, or choose another directory",
    errno.EPERM: "change its permissions, or choose another directory",
    errno.EISDIR: "a file is expected there: delete the directory",
    errno.ENOTDIR: "a directory is expected there: delete the file",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and repeat the command",
    errno.ENFILE: "close other programs and repeat the command",
    errno.EIO: "check the disk, then repeat the command",
    errno.ENOENT: "it was there before and is gone: repeat the command",
}
_SERIALISERS = ("SafetensorError", "ArrowException", "ArrowInvalid")  # they raise their own errors for those of a disk
_SYSTEM_WORDS = {"no space left": errno.ENOSPC, "file too large": errno.EFBIG, "quota exceeded": errno.EDQUOT}
_MEMORY_WORDS = ("can't allocate memory", "out of memory", "cannot allocate memory", "bad_alloc")


@contextmanager
def reading(path: Path, remedy: str = AFRESH) -> Iterator[None]:
    """Surrounds code that reads a file and makes sense of its content.

    Args:
        path: the file, for the message.
        remedy: what the user can do.

    Raises:
        UserError: the block raised anything. One that the block raised itself passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers of other packages have errors of many kinds
        raise UserError(f"{path} is damaged ({_first_line(error)}); {remedy}") from error


@contextmanager
def system_limits() -> Iterator[None]:
    """Surrounds a program or a job.

    Raises:
        UserError: in place of an error of the operating system, with the file, what was refused, and the remedy.
    """
    try:
        yield
    except Exception as error:
        if (line := refused(error)) is not None:
            raise UserError(line) from error
        raise


def refused(error: BaseException) -> str | None:
    """One line for what the operating system has refused; None for any other error."""
    if isinstance(error, BrokenPipeError | UserError):
        return None
    words = _first_line(error).lower()
    if isinstance(error, MemoryError) or (type(error).__name__ != "KeyError" and _said(words, _MEMORY_WORDS)):
        return f"{_MEMORY} ({_first_line(error)})"
    if type(error).__name__ in _SERIALISERS:
        number = next((number for said, number in _SYSTEM_WORDS.items() if said in words), None)
        return None if number is None else f"a file cannot be written: {os.strerror(number)}; {_REMEDIES[number]}"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    where = next((str(name) for name in (error.filename2, error.filename) if name), "a file")
    remedy = _REMEDIES.get(error.errno, "mend it, and repeat the command")
    return f"{where}: {error.strerror or os.strerror(error.errno)}; {remedy}"


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8. Anything else, such as a pipe, could block for ever.

    Raises:
        OSError: it is no regular file, or cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return path.read_text(encoding="utf-8")


def json_rows(path: Path, remedy: str = AFRESH) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object in each line; none where it is missing.

    An incomplete last line, which a killed process has left, is not read.

    Raises:
        UserError: a complete line is no JSON object.
    """
    if not path.exists():
        return []
    with reading(path, remedy):
        complete = read_text(path).rpartition("\n")[0]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(complete.split("\n"), 1):
        if not line.strip():
            continue
        with reading(Path(f"{path} line {number}"), remedy):
            row = json.loads(line)
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number} is damaged (a {type(row).__name__}, not an object); {remedy}")
        rows.append(row)
    return rows


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    return name if not lines else f"{name}: {lines[0][:200]}" if len(lines[0]) < 12 else lines[0][:200]


def _said(words: str, known: tuple[str, ...]) -> bool:
    return any(word in words for word in known)
