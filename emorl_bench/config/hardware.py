"""Devices as the configuration names them, and what can be known of GPUs without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean

DEVICES = ("auto", "cpu", "cuda")
NUMBERED = re.compile(r"cuda:(\d{1,4})")
LOW_PRECISION = ("bfloat16",)  # where two orders of the same sums differ enough to matter in a ratio of probabilities
CORRECTION = ("sampler_correction", "importance_limit")
"""Keys of ``hardware`` that act in low precision alone, and decide no number otherwise."""
GPU_FILES = ("nvidia*", "nvmap", "dxg", "kfd")  # below /dev, where torch could use a GPU: Linux, Jetson, WSL, ROCm
CORES = "EMORL_BENCH_CORES"  # cores of one job, which a launcher sets in its environment


def low_precision(config: Mapping[str, Any]) -> bool:
    """Whether the base model of a configuration computes in low precision."""
    dtype = (config.get("model") or {}).get("dtype") or (config.get("hardware") or {}).get("dtype")
    return dtype in LOW_PRECISION


def check_device(name: Any) -> None:
    """Check ``hardware.device``.

    Raises:
        UserError: it is none of auto, cpu, cuda and cuda:NUMBER.
    """
    if name not in DEVICES and not NUMBERED.fullmatch(str(name)):
        raise UserError(
            f"hardware.device={name}: unknown{did_you_mean(str(name), DEVICES)}; give auto, cpu, cuda or cuda:NUMBER"
        )


def kind(device: str) -> str:
    """``cuda`` for ``cuda:1``: which of several equal GPUs is used decides no number."""
    return device.partition(":")[0]


def number(device: str) -> int | None:
    """N for ``cuda:N``, None for other names."""
    found = NUMBERED.fullmatch(device)
    return int(found[1]) if found else None


def decided_on_cpu(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with ``auto`` decided as it is on a machine without a GPU."""
    device = "cpu" if hardware["device"] == "auto" else kind(hardware["device"])
    dtype = "float32" if hardware["dtype"] == "auto" else hardware["dtype"]
    return {**hardware, "device": device, "dtype": dtype}


def numbers_gpus(hardware: Mapping[str, Any]) -> bool:
    """Whether a job names GPUs by their numbers, so that it must see all of them."""
    named = (hardware.get("device"), hardware.get("scorer_device"))
    return any(number(str(name)) is not None for name in named)


def may_have_gpu() -> bool:
    """Whether torch could find a GPU: it was not built for CPUs only, and the system shows a device of any maker."""
    try:
        cpu_only = re.search(r"\+cpu", metadata.version("torch")) is not None
    except metadata.PackageNotFoundError:
        return True
    return not cpu_only and any(True for name in GPU_FILES for _ in Path("/dev").glob(name))


def cores() -> int:
    """Cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return allowed or 1


def threads(hardware: Mapping[str, Any]) -> int:
    """``hardware.threads``; null is the job's share of the cores: all of them for a job alone on its machine."""
    if hardware["threads"] is not None:
        return int(hardware["threads"])
    share = os.environ.get(CORES, "")
    return int(share) if share.isdecimal() and int(share) > 0 else cores()
