"""A lower bound of the time of a decode on this machine, from peaks that are measured here.

Each step must read the weights once and must do its multiplications. So it takes at least the larger of ``bytes / read
bandwidth`` and ``FLOPs / rate of a matrix product of so many rows``. The bound counts no time for softmax, norms and
Python, and none for what depends on caches larger than the weights.
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
BLOCK = (512, 2048)  # size of the matrix that rows are multiplied with
BLOCK_GPU = (8192, 8192)  # larger than its cache, and so large that the time of a launch is negligible


@dataclass(frozen=True)
class Peaks:
    """The peaks of this machine with one number of threads and one dtype.

    Attributes:
        bandwidth: bytes read in a second.
        rates: FLOP/s of a matrix product by its number of rows.
    """

    bandwidth: float
    rates: Mapping[int, float]

    def rate(self, rows: float) -> float:
        """FLOP/s at a number of rows, interpolated on a logarithmic axis."""
        return float(np.interp(np.log(max(rows, 1)), np.log(list(self.rates)), list(self.rates.values())))

    def least(self, bytes_read: float, flops: float, rows: float) -> float:
        """The least seconds that reading so many bytes and making so many FLOPs at so many rows take."""
        return max(bytes_read / self.bandwidth, flops / self.rate(rows))

    def as_dict(self) -> dict[str, Any]:
        """The peaks as they are recorded."""
        return {"bytes_per_second": self.bandwidth, "flops_per_second_at_rows": dict(self.rates)}


@torch.no_grad()
def measured_peaks(device: torch.device, dtype: torch.dtype, *, quick: bool = False) -> Peaks:
    """Measure the peaks of a device.

    Each peak is the best of a few tries, because a peak is what an idle machine reaches.

    Args:
        device: what is measured.
        dtype: that of the matrix products.
        quick: measure on small sizes; the numbers mean nothing.
    """
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
    """The numbers of weights that a decode meets, by how often it meets them. Each weight is 2 FLOPs for each row.

    Attributes:
        prompt: weights that every prompt token meets once: the encoder and the keys and values of cross-attention.
        step: weights that every new token meets.
        head: weights of the head.
        attention: multiplications of a row for each position that it attends to in self-attention.
        cross: the same in cross-attention.
        adapter_prompt: weights of one adapter beside ``prompt``.
        adapter_step: weights of one adapter beside ``step``.
        bytes_each: bytes of one weight.
    """

    prompt: int
    step: int
    head: int
    attention: int
    cross: int
    adapter_prompt: int
    adapter_step: int
    bytes_each: int

    @classmethod
    def of(cls, setting: Setting) -> Work:
        """Count the weights of a setting's model."""
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
    """The least seconds in which every expert reads the prompts once."""
    tokens = experts * sum(prompt_lengths)
    weights = (work.prompt + experts * work.adapter_prompt) * work.bytes_each
    return peaks.least(weights, 2 * tokens * (work.prompt + work.adapter_prompt), tokens)


def steps_bound(peaks: Peaks, work: Work, experts: int, prompt_lengths: Sequence[int], ids_WBT: Tensor) -> float:
    """The least seconds for the steps of one decode if equal prefixes share a row.

    Args:
        peaks: those of the machine.
        work: the weights of the model.
        experts: the experts that decode each row.
        prompt_lengths: the tokens of each prompt.
        ids_WBT: the tokens of W weight vectors.
    """
    prompts = len(prompt_lengths)
    length = sum(prompt_lengths) / prompts
    weights = (work.step + experts * work.adapter_step + work.head) * work.bytes_each
    seconds = 0.0
    for t, rows in enumerate(distinct_rows(ids_WBT)[0]):
        blends = min(len(ids_WBT) * prompts, experts * rows)  # the head reads blends, or states if these are fewer
        attended = work.attention * (t + 1 + (0 if work.cross else length)) + work.cross * length
        multiplications = experts * rows * (work.step + work.adapter_step + attended) + blends * work.head
        seconds += peaks.least(weights, 2 * multiplications, experts * rows)
    return seconds


def distinct_rows(ids_WBT: Tensor) -> tuple[list[int], float]:
    """Count the rows that must be decoded if equal prefixes share one.

    Returns:
        the rows of each step, and the mean number of distinct outputs of a prompt at the end.
    """
    vectors, prompts, steps = ids_WBT.shape
    tokens = ids_WBT.reshape(-1, steps).cpu().numpy()
    group, counts = np.tile(np.arange(prompts), vectors), []
    for t in range(steps):
        counts.append(len(np.unique(group)))
        group = np.unique(np.stack([group, tokens[:, t]]), axis=1, return_inverse=True)[1].reshape(-1)
    return counts, len(np.unique(group)) / prompts
