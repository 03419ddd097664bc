"""Times of work on a device, for choices that are made by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_of(device: torch.device, *works: Callable[[], object], rounds: int = 3) -> list[float]:
    """The shortest time of each piece of work, in seconds; they take turns. Each is done once before, without a clock.

    Args:
        device: waited for before the clock is read.
        works: what is timed.
        rounds: how often each is timed.
    """
    best = [float("inf")] * len(works)
    for turn in range(rounds + 1):
        for i, work in enumerate(works):
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            best[i] = min(best[i], time.perf_counter() - started) if turn else best[i]
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
