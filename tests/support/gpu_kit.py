"""A kit without a GPU, at micro sizes."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.gpu.kit import Kit, Settings

CPU = torch.device("cpu")
ABOUT = {"card": "no", "versions": {}, "commit": None, "uncommitted_changes": True, "python": "3", "started": "now"}


def new_kit(out: Path) -> Kit:
    """A kit with ten minutes left, whose files go to ``out``."""
    made = Kit(Settings(10.0, out, out / "runs", CPU, True), ABOUT)
    made._until = time.monotonic() + 600
    return made
