"""A profile of one call: the kernels that ran, the operators that were called, and the time of device and host."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from benchmarks.timing import seconds_of

WARM, TIMED, TOP = 2, 5, 8


@dataclass(frozen=True)
class Profile:
    """What one call costs. Without a GPU the device's numbers are 0, and ``top`` is about operators.

    Attributes:
        host_ms: wall time without the profiler.
        device_ms: the time of all kernels.
        kernels: the number of kernels.
        operators: the number of operators that no other operator called.
        top: the costliest kernels by name.
        raw: seconds of every repeat.
    """

    host_ms: float
    device_ms: float
    kernels: int
    operators: int
    top: list[dict[str, Any]]
    raw: tuple[float, ...]


def profiled(act: Callable[[], object], device: torch.device) -> Profile:
    """Profile a call, after calls without the profiler that are timed."""
    for _ in range(WARM):
        act()
    raw = tuple(seconds_of(act, device) for _ in range(TIMED))
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        seconds_of(act, device)
    events: list[Any] = list(profiler.events())
    operators = [e for e in events if _on(e, "CPU") and e.name.startswith("aten::")]
    kernels = [e for e in events if _on(e, "CUDA") and not e.name.startswith("aten::")]
    outer = sum(1 for e in operators if e.cpu_parent is None or not e.cpu_parent.name.startswith("aten::"))
    spent = defaultdict[str, list[float]](list)
    for event in kernels if gpu else operators:
        spent[event.name].append((event.time_range.elapsed_us() if gpu else event.self_cpu_time_total) / 1e3)
    device_ms = sum(e.time_range.elapsed_us() for e in kernels) / 1e3
    return Profile(1e3 * statistics.median(raw), device_ms, len(kernels), outer, _top(spent, gpu), raw)


def _top(spent: dict[str, list[float]], gpu: bool) -> list[dict[str, Any]]:
    whole = sum(map(sum, spent.values())) or 1.0
    costliest = sorted(spent.items(), key=lambda item: -sum(item[1]))[:TOP]
    kind = "kernel" if gpu else "operator"
    return [{kind: n[:80], "calls": len(ms), "ms": sum(ms), "share": sum(ms) / whole} for n, ms in costliest]


def _on(event: Any, kind: str) -> bool:
    """Whether an event belongs to a kind of device.

    ``event.device_type`` is an enumeration that torch does not export by a stable name.
    """
    return str(event.device_type).endswith(f".{kind}")
