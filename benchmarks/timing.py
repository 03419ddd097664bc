"""Clocks for comparisons. The sides take turns, so a busy machine slows all of them, and medians are reported."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Side = Callable[[], float]  # runs once and says how many seconds that took


def seconds_of(act: Callable[[], object], device: torch.device) -> float:
    """The wall time of one call, with the device synchronised around it."""
    synchronise(device)
    started = time.perf_counter()
    act()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done its work; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(prepare: Callable[[], Callable[[], object]], device: torch.device) -> Side:
    """A side whose preparation (drawing prompts, building what must be cold) is not timed.

    Args:
        prepare: returns the function that is timed.
        device: where it computes.
    """

    def side() -> float:
        act = prepare()
        gc.collect()
        return seconds_of(act, device)

    return side


@dataclass(frozen=True)
class Timing:
    """The raw times of one side, in the order in which they were taken."""

    raw: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.raw)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.raw) - min(self.raw)) / self.median

    def as_dict(self) -> dict[str, Any]:
        """The times as they are recorded."""
        return {"median": self.median, "spread": self.spread, "repeats": len(self.raw), "raw": list(self.raw)}


def interleaved(label: str, sides: Mapping[str, Side], repeats: int) -> dict[str, Timing]:
    """Run every side once in each of ``repeats`` rounds; every second round runs backwards.

    Returns:
        the times by the name of the side.
    """
    raw: dict[str, list[float]] = {name: [] for name in sides}
    started = time.monotonic()
    for done in range(repeats):
        order = list(sides) if done % 2 == 0 else list(reversed(list(sides)))
        for name in order:
            raw[name].append(sides[name]())
            seconds = time.monotonic() - started
            turns = sum(map(len, raw.values()))
            left = f", about {seconds / turns * (len(sides) * repeats - turns):.0f} s left of this part"
            say(f"{label}: round {done + 1}/{repeats}, {name} {raw[name][-1]:.3g} s{left}")
    return {name: Timing(tuple(times)) for name, times in raw.items()}


def say(line: str) -> None:
    """Print a line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)
