"""Weights that a checkpoint must have: the same check for base models, encoders and judges.

transformers draws a missing tensor at random, and reads NaN and zeros without a word. Such a model answers or judges at
random, and its numbers look like any others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from emorl_bench.core.errors import UserError


@contextmanager
def unreported() -> Iterator[None]:
    """Surrounds loading. transformers logs a table of what does not fit, which `check_weights` says in one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@torch.no_grad()
def check_weights(model: Any, missing: Sequence[str], where: str) -> None:
    """Check the weights that transformers has just read.

    Args:
        model: the model.
        missing: the names that its files do not have, as transformers reports them.
        where: the key and the value that name the model, for the message.

    Raises:
        UserError: weights are missing or not finite, or its embedding is zero everywhere.
    """
    if missing:
        raise UserError(f"{where}: {len(missing)} weights are not in its files, such as {sorted(missing)[0]}")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise UserError(f"{where}: {name} has values that are not finite; copy its files again")
    embedding = getattr(model.get_input_embeddings(), "weight", None)
    if embedding is not None and embedding.numel() and not embedding.any():
        raise UserError(f"{where}: its embedding is zero everywhere; copy its files again")


def reason(error: BaseException) -> str:
    """One short line for an error of transformers or safetensors about a damaged or foreign file."""
    text = str(error)
    if "ignore_mismatched_sizes" in text or "size mismatch" in text:
        return "its weights have other shapes than its config.json says"
    if isinstance(error, KeyError):
        return f"{text} is missing in one of its files"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
