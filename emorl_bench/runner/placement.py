"""Where a run computes and in which precision: ``auto`` decided, and one line that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from emorl_bench.config import hardware as named
from emorl_bench.config.checks import launched
from emorl_bench.core.errors import UserError
from emorl_bench.core.memory import UNKNOWN, free_on_machine
from emorl_bench.core.words import counted
from emorl_bench.data.sizes import limit_corpora

TF32_SINCE = 8  # compute capability of Ampere, the first cards with TF32
MIB, GIB = 1 << 20, 1 << 30


def decided(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``hardware`` with device, dtype and threads decided, and torch set accordingly.

    ``cuda:N`` becomes ``cuda`` and N this process's current GPU, so that the number is no part of a run's identity.

    Raises:
        UserError: see `chosen_device`; or the dtype needs a GPU.
    """
    device = chosen_device(hardware)
    dtype = chosen_dtype(hardware["dtype"], device)
    set_products(dtype)
    return {**hardware, "device": device.type, "dtype": dtype, "threads": named.threads(hardware)}


def set_products(dtype: str) -> None:
    """Let products of float32 on a GPU be rounded under tf32, and under no other dtype."""
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")


def chosen_device(hardware: Mapping[str, Any]) -> torch.device:
    """The device that ``hardware.device`` asks for, with ``auto`` decided.

    As a side effect torch is limited to ``hardware.threads`` threads, and corpora to ``hardware.max_corpus_mb``, and
    the GPU of ``cuda:N`` becomes the current one.

    Raises:
        UserError: it asks for a GPU, and torch can use none, or has none of this number; or it asks for one GPU by its
            number where a launcher has started several processes.
    """
    name, available = hardware["device"], torch.cuda.is_available()
    wanted = named.number(name)
    if named.kind(name) == "cuda" and not available:
        raise UserError(f"hardware.device={name}: no GPU that torch can use was found; say hardware.device=cpu")
    if wanted is not None:
        if launched() > 1:
            raise UserError(f"hardware.device={name}: each of {launched()} processes takes a GPU of its own; say cuda")
        if wanted >= (count := torch.cuda.device_count()):
            raise UserError(f"hardware.device={name}: torch sees {count} GPU(s); give cuda:0 to cuda:{count - 1}")
        torch.cuda.set_device(wanted)
    torch.set_num_threads(named.threads(hardware))
    limit_corpora(hardware.get("max_corpus_mb"))
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def chosen_dtype(name: str, device: torch.device) -> str:
    """The dtype that ``hardware.dtype`` asks for, with ``auto`` decided for the current device.

    ``auto`` is bfloat16 on a GPU that multiplies it in hardware, tf32 on another one that has that, else float32.

    Raises:
        UserError: tf32 was asked for without a GPU.
    """
    if name == "tf32" and device.type == "cpu":
        raise UserError("hardware.dtype=tf32: only GPUs have it; say hardware.dtype=float32")
    if name != "auto":
        return name
    if device.type == "cpu":
        return "float32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "tf32" if torch.cuda.get_device_capability()[0] >= TF32_SINCE else "float32"


def torch_dtype(name: str) -> torch.dtype:
    """The type of weights and hidden states; tf32 is float32 whose products are rounded."""
    dtype: torch.dtype = getattr(torch, "float32" if name == "tf32" else name)
    return dtype


def in_words(device: torch.device, dtype: str, max_rows: int, block_bytes: int) -> str:
    """One line: the device, the base model's dtype, the rows that are decoded at once, and the memory there is.

    ``block_bytes`` bounds what is made of logits at a time (`core.memory`).
    """
    rows = f"at most {max_rows} rows at once, logits in blocks of {block_bytes / MIB:.0f} MiB"
    return f"computes on {_named(device)}, in {dtype}, {rows}; {_memory(device)}"


def _named(device: torch.device) -> str:
    if device.type != "cuda":
        count = torch.get_num_threads()
        return f"{device.type} ({counted(count, 'thread')})"
    index = torch.cuda.current_device() if device.index is None else device.index
    return f"cuda:{index} ({torch.cuda.get_device_name(index)})"


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / GIB:.1f} of {total / GIB:.1f} GiB of its memory are free"
    free = free_on_machine()
    return "its free memory is unknown" if free == UNKNOWN else f"{free / GIB:.1f} GiB of memory are free"
