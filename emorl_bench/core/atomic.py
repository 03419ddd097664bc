"""Files that are either the old one or the new one, never half of one: they are written beside, then renamed."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.[0-9a-f]{8}\.tmp")  # beside the file that it will replace


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to. It replaces ``path`` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_over(directory: Path, name: str | None = None) -> None:
    """Remove temporary files that killed processes have left below a directory.

    The caller holds a lock, so that no other process is writing these files.

    Args:
        directory: where to look.
        name: only those that would have replaced files of this name; None: all.
    """
    for path in directory.rglob(".*.tmp"):
        if (match := TEMPORARY.fullmatch(path.name)) and name in (None, match["name"]):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file by this text, or leave it as it is."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace a file by this value as JSON, or leave it as it is."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
