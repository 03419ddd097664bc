"""Memory: for every preset the peak that `runner.memory_plan` plans, and the one that a rollout and an update take.

On a GPU the peak is what torch's allocator has given out at most. On a CPU every allocation of torch is counted
(`benchmarks.allocations`), and the models are cut: ``--quick`` makes them micro, otherwise they keep their widths and
lengths and have two layers and 8,192 words, and an update has two rows. The plan is then that of the cut model.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.allocations import Allocations
from benchmarks.gpu.kit import Kit, Number
from benchmarks.gpu.presets import Preset, built, composed, presets
from benchmarks.gpu.quantised import PACKAGE
from benchmarks.timing import seconds_of
from emorl_bench.core.memory import free_bytes
from emorl_bench.core.types import Rollout

MARGIN = 0.9  # of the free memory; a preset whose plan takes more is left out
SECONDS_A_GB = 1.5  # building a model, hashing its weights, one rollout and one update, by its planned peak
SECONDS_PACKED = 60.0  # more, where weights are written and read again to be packed
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers")
WORDS = {"vocab_size": 8192}
CUT = ("budget.training.batch_prompts=1", "budget.training.samples_per_prompt=2", "hardware.block_bytes=67108864")
MICRO = (
    "budget.training.batch_prompts=2", "budget.training.samples_per_prompt=2", "model.max_prompt_tokens=12",
    "sampling.max_new_tokens=6", "hardware.block_bytes=1048576",
)  # fmt: skip
NARROW = {
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "vocab_size": 211},
    "gpt2": {"n_embd": 64, "n_head": 4, "vocab_size": 211},
    "llama": {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 16, "vocab_size": 211},
}  # fmt: skip
QUICK = ("cory_gsm8k", "emorl_pair", "gpt2")  # one of each architecture
GB = 1e9


def measure_memory(kit: Kit) -> None:
    """Measure one preset after the other, as far as the time allows."""
    free = free_bytes(kit.device)
    with tempfile.TemporaryDirectory() as directory:
        for preset in chosen(kit, Path(directory)):
            if preset.packed and find_spec(PACKAGE) is None:
                kit.skip(preset.name, f"{PACKAGE} is not installed")
            elif kit.device.type == "cuda" and preset.plan.peak > MARGIN * free:
                kit.skip(preset.name, f"{preset.plan.peak / GB:.1f} GB are planned, {free / GB:.1f} are free")
            elif kit.wants(preset.name, f"memory/{preset.name}", seconds_of_preset(preset)):
                with kit.attempt(preset.name, f"memory/{preset.name}"):
                    measure_preset(kit, preset)


def seconds_of_preset(preset: Preset) -> float:
    """About how long a preset takes."""
    return SECONDS_A_GB * preset.plan.peak / GB + (SECONDS_PACKED if preset.packed else 0.0)


def chosen(kit: Kit, directory: Path) -> Iterator[Preset]:
    """The presets, cut to the device and the time."""
    for preset in presets():
        if kit.device.type == "cuda":
            yield preset
        elif not kit.settings.quick:
            yield cut(preset, directory, WORDS, CUT)
        elif preset.name in QUICK:
            narrow = NARROW["llama" if preset.kind == "qwen2" else preset.kind]
            yield cut(preset, directory, narrow, MICRO)


def cut(preset: Preset, directory: Path, sizes: dict[str, int], overrides: tuple[str, ...]) -> Preset:
    """The same preset on a model of two layers and of other sizes."""
    dims = {**preset.dims, **{name: 2 for name in LAYERS if name in preset.dims}, **sizes}
    place = directory / preset.kind / preset.name
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({**dims, "model_type": preset.kind}))
    own = ("experiment=" if "data_dir" in preset.settings["task"] else "model=") + preset.name
    base = (own, "task.data_dir=.") if own.startswith("experiment") else (own, "method=weighted_ppo")
    rows = () if preset.settings["update"].get("micro_batch") is None else ("update.micro_batch=2",)
    given = [*base, "hardware=cuda", f"model.path={place}", *rows, *overrides]
    found = composed(preset.name, *given)
    assert found is not None
    return found


def measure_preset(kit: Kit, preset: Preset) -> None:
    """Take the peaks and the times of one rollout and of one update, then of an update of learners side by side."""
    with watching(kit.device) as watch:
        made = built(preset, kit.device)
        weights = watch.now()
        watch.peak_since()
        rollouts: list[Rollout] = []
        seconds = {"rollout_s": seconds_of(lambda: rollouts.extend(made.rollout()), kit.device)}
        peaks = {"rollout_GB": watch.peak_since() / GB}
        seconds["update_s"] = seconds_of(lambda: made.update(rollouts, joint=False), kit.device)
        peaks["update_GB"] = watch.peak_since() / GB
        most = max(peaks.values())
        if len(made.policies) > 1:
            together = made.update(rollouts, joint=True)
            peaks |= {"update_side_by_side_GB": watch.peak_since() / GB, "side_by_side": float(together)}
    planned = (preset.plan.peak - preset.plan.scorers) / GB  # no scorer is loaded here
    kept = (preset.plan.weights + preset.plan.adapters) / GB
    peaks["rollout_over_planned"] = peaks["rollout_GB"] / (kept + preset.plan.decoding / GB)
    peaks["update_over_planned"] = peaks["update_GB"] / (kept + preset.plan.training / GB)
    about = {"planned_GB": planned, "weights_GB": weights / GB, "learners": len(made.policies)}
    about |= {"rows": preset.plan.rows, "row_tokens": preset.plan.tokens}
    facts = about | peaks | (seconds if kit.device.type == "cuda" else {})  # counting takes most of a CPU's time
    what = f"{preset.name}: peak of one rollout and one update{cut_to(kit)}"
    number = Number("memory", what, most, "GB", most / planned, "measured over planned", facts)
    kit.number(f"memory/{preset.name}/peak", number)


def cut_to(kit: Kit) -> str:
    """What a model was cut to, in words."""
    if kit.device.type == "cuda":
        return ""
    return ", micro" if kit.settings.quick else ", two layers, two rows"


class Watch(Protocol):
    """Bytes that were given out since the beginning."""

    def now(self) -> int:
        """Those that are held now."""

    def peak_since(self) -> int:
        """The most that were held at one time since this was asked last, or since the beginning."""


@dataclass(frozen=True)
class OnGpu:
    """A `Watch` of what torch's allocator gives out; ``held``: the bytes that others held before."""

    device: torch.device
    held: int

    def now(self) -> int:
        """See `Watch.now`."""
        gc.collect()
        return torch.cuda.memory_allocated(self.device) - self.held

    def peak_since(self) -> int:
        """See `Watch.peak_since`."""
        peak = torch.cuda.max_memory_allocated(self.device) - self.held
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak


@dataclass(frozen=True)
class OnCpu:
    """A `Watch` of the allocations that are counted."""

    counted: Allocations

    def now(self) -> int:
        """See `Watch.now`."""
        gc.collect()
        return self.counted.alive

    def peak_since(self) -> int:
        """See `Watch.peak_since`."""
        peak, self.counted.peak = self.counted.peak, self.counted.alive
        return peak


@contextmanager
def watching(device: torch.device) -> Iterator[Watch]:
    """A watch over this context, in which a model is made and used."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        yield OnGpu(device, torch.cuda.memory_allocated(device))
        return
    with Allocations() as counted:
        yield OnCpu(counted)
