"""What may differ between a run that was killed and one that was not, each with its reason. All else must be equal.

Exempt are clocks, memory, the identity of a process, and what only says how often a run was taken up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Exempt:
    """Keys of some files that are not compared.

    Attributes:
        files: a regular expression that the whole name of a file matches.
        keys: one that the end of a key's path matches; parts of the path are joined by "/", but keys have slashes too.
        reason: why it may differ.
        optional: whether a key may also be missing.
    """

    files: str
    keys: str
    reason: str
    optional: bool = False


EXEMPT = (
    Exempt(r".*\.(json|jsonl|safetensors)", r"(^|/|_)seconds(_sum|_max)?$", "time that has passed"),
    Exempt(r".*\.(json|jsonl|safetensors)", r"(^|/)peak_bytes$", "memory of a process, of this session only"),
    Exempt(r"status\.json", r"^(pid|host|heartbeat)$", "the process that wrote it, and when"),
    Exempt(
        r"status\.json",
        r"^(doing|tokens_per_second|reward)$",
        "the last report of progress, written every 5 s",
        optional=True,
    ),
    Exempt(r"provenance\.json", r"^sessions/[^/]+/started$", "the date of a session"),
    Exempt(r"provenance\.json", r"^sessions/[^/]+/commit$", "may move on; a trial is repeated where the code differs"),
    Exempt(r"(state|end|previous)\.safetensors", r"^sha256$", "a hash of the file's content, seconds included"),
)
"""Keys of JSON, of JSON lines, and of the metadata of safetensors."""

SESSIONS = "provenance.json"
"""Has an entry for every time that the run was taken up. The last one is compared."""

LOGS = r"(^|/)\.sweeps/.*"
"""Output of a sweep's jobs, in a directory that is named by the date."""


def exempt_keys(file: str, *, optional: bool) -> re.Pattern[str]:
    """The keys of a file of this name that are not compared, as one expression to search for.

    Args:
        file: the name of the file.
        optional: those that may be missing; otherwise those that may not.
    """
    mine = [f"(?:{one.keys})" for one in EXEMPT if one.optional == optional and re.fullmatch(one.files, file)]
    return re.compile("|".join(mine) or r"(?!)")
