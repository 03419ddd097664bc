"""Errors that the user can correct: one line that names the key, the value and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. A program prints its one line and exits with code 2; the traceback is shown only on request."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: ``"; did you mean 'emorl'?"`` for a close name, else the list of all known names."""
    names = {name.lower(): name for name in sorted(known)}  # whoever writes EMORL means emorl
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean '{names[close[0]]}'?" if close else f"; known: {', '.join(names.values())}"
