"""How much of a file is read: a limit for the whole process, so that no small archive fills the memory."""

from __future__ import annotations

import gzip
from pathlib import Path

from emorl_bench.core.errors import UserError

MEGABYTE = 10**6
_limits: list[int | None] = [None]  # bytes; None: no limit. One cell, because it is a setting of the process


def limit_corpora(megabytes: int | None) -> None:
    """Set the most that one file of a corpus may hold from now on, as ``hardware.max_corpus_mb`` says; None: any."""
    _limits[0] = None if megabytes is None else megabytes * MEGABYTE


def content(path: Path, where: str) -> bytes:
    """The bytes of a regular file, unpacked where its name ends in ``.gz``.

    Not more than the limit is ever in memory, however much an archive would unpack to.

    Args:
        path: the file.
        where: the beginning of a message about it.

    Raises:
        UserError: it holds more than the limit, or is a FIFO, a device or a directory.
        OSError: it cannot be read, or is no whole archive (`gzip.BadGzipFile`).
        EOFError, zlib.error: as `gzip.open`.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{where}: is no regular file; give the file itself")
    most = _limits[0]
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        data = stream.read() if most is None else stream.read(most + 1)
    if most is not None and len(data) > most:
        raise UserError(
            f"{where}: holds more than {most // MEGABYTE} MB; if it is what it should be, say "
            f"hardware.max_corpus_mb={2 * most // MEGABYTE} or more"
        )
    return data
