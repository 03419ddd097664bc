"""Code of others that ends the program: a scorer, a model or a method that calls ``sys.exit``."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from emorl_bench.core.errors import UserError

WRAPPER = "exit_hooks.py"  # of wandb, which puts a function of its own in the place of sys.exit


@contextmanager
def staying(what: str) -> Iterator[None]:
    """Surrounds code that must not end the program. Without this a run would end early, and with exit code 0.

    Args:
        what: the code, for the message.

    Raises:
        UserError: the block called ``sys.exit``; the message says where.
    """
    try:
        yield
    except SystemExit as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next((frame for frame in reversed(frames) if not frame.filename.endswith(WRAPPER)), frames[-1])
        raise UserError(
            f"{what} ended the program with sys.exit({error.code!r}) in {last.name} ({last.filename}:{last.lineno}); "
            "raise an error there instead, or remove the call"
        ) from error
