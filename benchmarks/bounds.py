"""How fast could it be? The least time a decode can take on this machine, from peaks that are measured here.

Each step must read the weights once and must do its multiplications; it can take no less than the larger of
``bytes / read bandwidth`` and ``FLOPs / matrix-product rate at that many rows``. Softmax, norms and Python are free in
this bound, as is everything that depends on caches larger than the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from benchmarks.models import Setting
from benchmarks.timing import seconds_of

ROWS = (16, 48, 192, 768, 3072)
READ_BYTES = 1 << 29
BLOCK = (512, 2048)  # of the matrix that rows are multiplied with
BLOCK_GPU = (8192, 8192)  # beyond its cache, and long enough that a launch does not count


@dataclass(frozen=True)
class Peaks:
    """Of this machine with this many threads and this dtype."""

    bandwidth: float  # bytes read a second
    rates: Mapping[int, float]  # rows -> FLOP/s of a matrix product with so many rows

    def rate(self, rows: float) -> float:
        return float(np.interp(np.log(max(rows, 1)), np.log(list(self.rates)), list(self.rates.values())))

    def least(self, bytes_read: float, flops: float, rows: float) -> float:
        """Seconds."""
        return max(bytes_read / self.bandwidth, flops / self.rate(rows))

    def as_dict(self) -> dict[str, Any]:
        return {"bytes_per_second": self.bandwidth, "flops_per_second_at_rows": dict(self.rates)}


@torch.no_grad()
def measured_peaks(device: torch.device, dtype: torch.dtype, *, quick: bool = False) -> Peaks:
    """The best of a few tries each: a peak is what a quiet moment allows."""
    size = READ_BYTES // (64 if quick else 1) // 4
    numbers = torch.ones(size, device=device)
    bandwidth = numbers.nbytes / _best(lambda: numbers.sum(), device, 3 if quick else 5)
    inner, outer = BLOCK_GPU if device.type == "cuda" and not quick else BLOCK
    block = torch.randn(inner, outer, device=device).to(dtype)
    rates = {}
    for rows in ROWS[:2] if quick else ROWS:
        x = torch.randn(rows, inner, device=device).to(dtype)
        tries = max(5, 20_000 // rows if device.type == "cpu" else 100)
        rates[rows] = 2 * x.numel() * outer / _product(x, block, device, min(tries, 100))
    return Peaks(bandwidth, rates)


def _product(x: Tensor, block: Tensor, device: torch.device, tries: int) -> float:
    return _best(lambda: x @ block, device, tries)


def _best(act: Any, device: torch.device, tries: int) -> float:
    act()
    return min(seconds_of(act, device) for _ in range(tries))


@dataclass(frozen=True)
class Work:
    """Weights by how often a decode needs them. Multiply by 2 for FLOPs a row."""

    prompt: int  # weights that every prompt token meets once: the encoder and cross-attention's keys and values
    step: int  # weights that every new token meets
    head: int
    attention: int  # multiplications of a row for each position it attends to, self-attention
    cross: int  # the same, cross-attention
    adapter_prompt: int
    adapter_step: int
    bytes_each: int

    @classmethod
    def of(cls, setting: Setting) -> Work:
        model, layers = setting.backbone.model, setting.backbone.layers
        head = model.get_output_embeddings().weight
        names = [name for name, module in layers.items() if isinstance(module.base, nn.Linear | Conv1D)]
        base = {n: layers[n].in_features * layers[n].out_features for n in names}
        rank = setting.backbone.settings.rank
        low = {n: rank * (layers[n].in_features + layers[n].out_features) for n in names}
        if setting.backbone.family == "causal":
            depth = 2 * model.config.num_hidden_layers * model.config.hidden_size
            prompt = step = names
            cross = 0
        else:
            once = ("EncDecAttention.k", "EncDecAttention.v")
            prompt = [n for n in names if n.startswith("encoder.") or n.endswith(once)]
            step = [n for n in names if n not in set(prompt)]
            depth = cross = 2 * model.config.num_decoder_layers * model.config.num_heads * model.config.d_kv

        def total(sizes: Mapping[str, int], chosen: Sequence[str]) -> int:
            return sum(sizes[n] for n in chosen)

        return cls(
            total(base, prompt), total(base, step), head.numel(), depth, cross,
            total(low, prompt), total(low, step), head.element_size(),
        )  # fmt: skip


def reading_bound(peaks: Peaks, work: Work, experts: int, prompt_lengths: Sequence[int]) -> float:
    """Seconds for every expert to read the prompts once."""
    tokens = experts * sum(prompt_lengths)
    weights = (work.prompt + experts * work.adapter_prompt) * work.bytes_each
    return peaks.least(weights, 2 * tokens * (work.prompt + work.adapter_prompt), tokens)


def steps_bound(peaks: Peaks, work: Work, experts: int, prompt_lengths: Sequence[int], ids_WBT: Tensor) -> float:
    """Seconds for the steps of one decode if equal prefixes share a row."""
    prompts = len(prompt_lengths)
    length = sum(prompt_lengths) / prompts
    weights = (work.step + experts * work.adapter_step + work.head) * work.bytes_each
    seconds = 0.0
    for t, rows in enumerate(distinct_rows(ids_WBT)[0]):
        blends = min(len(ids_WBT) * prompts, experts * rows)  # the head meets each blend or each state
        attended = work.attention * (t + 1 + (0 if work.cross else length)) + work.cross * length
        multiplications = experts * rows * (work.step + work.adapter_step + attended) + blends * work.head
        seconds += peaks.least(weights, 2 * multiplications, experts * rows)
    return seconds


def distinct_rows(ids_WBT: Tensor) -> tuple[list[int], float]:
    """Rows that must be decoded at each step if equal prefixes share one; distinct outputs per prompt at the end."""
    vectors, prompts, steps = ids_WBT.shape
    tokens = ids_WBT.reshape(-1, steps).cpu().numpy()
    group, counts = np.tile(np.arange(prompts), vectors), []
    for t in range(steps):
        counts.append(len(np.unique(group)))
        group = np.unique(np.stack([group, tokens[:, t]]), axis=1, return_inverse=True)[1].reshape(-1)
    return counts, len(np.unique(group)) / prompts
