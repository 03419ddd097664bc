"""Errors that are the user's to mend: one line that names the key, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. Programs print its one line and exit with 2; the traceback is shown only when asked for."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'emorl'?"`` where something close is known, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"
