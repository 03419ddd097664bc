"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 job``, ``2 jobs``: a number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
