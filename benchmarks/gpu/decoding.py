"""Decoding: tokens a second, distance from the bound, and memory, beside transformers' generate in the same turns.

Models have the shapes of published ones and random weights. No token ends a response, so all sides decode equally many
tokens. The bound is that of `benchmarks.bounds`, from the bandwidth and the rates that are measured on the card at the
start. At these numbers of rows, reading the weights decides it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.bounds import Peaks, measured_peaks
from benchmarks.gpu.choices import as_runs_decode
from benchmarks.gpu.generating import Generating
from benchmarks.gpu.kit import Kit, Number
from benchmarks.models import SHAPES, Setting, micro, random_setting
from benchmarks.ours import Decode, blended, one_policy, scattered_weights
from benchmarks.timing import Side, Timing, interleaved

NAMES = ("smollm2_135m", "qwen_0_5b", "llama_1b", "t5_base")
ROWS = (64, 16, 256)  # prompts; the most informative number first
BLENDS, EXPERTS = 27, 3
THRICE = "one_policy_3x_rows"  # as many rows as a blend feeds to the model
UNIFORM = torch.full((1, EXPERTS), 1 / EXPERTS, dtype=torch.float64)
QUICK = (("smollm2_135m", "t5_base"), (4,), 3)  # shapes, rows and blends of a micro run


@dataclass(frozen=True)
class Plan:
    """What is decoded.

    Attributes:
        names: shapes of `benchmarks.models.SHAPES`.
        rows: prompts of a batch, one after the other.
        blends: weight vectors of the large decode.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    blends: int

    @classmethod
    def of(cls, kit: Kit) -> Plan:
        """The plan of a kit, micro if the kit is."""
        return cls(*QUICK) if kit.settings.quick else cls(NAMES, ROWS, BLENDS)


def measure_decoding(kit: Kit) -> None:
    """Measure the card's peaks, then every shape."""
    peaks = measured_peaks(kit.device, kit.settings.dtype, quick=kit.settings.quick)
    bandwidth = Number("decoding", "memory bandwidth, read", peaks.bandwidth / 1e9, "GB/s")
    kit.number("decoding/peaks/bandwidth", bandwidth)
    fastest = max(peaks.rates.values())
    kit.number("decoding/peaks/rate", Number("decoding", "matrix products", fastest / 1e12, "TFLOP/s"))
    plan = Plan.of(kit)
    for i, name in enumerate(plan.names):
        left_out = all(step_of(name, rows) in kit.steps for rows in plan.rows)
        if not left_out and kit.affords(name, 5.0):
            with kit.attempt(name):
                measure_shape(kit, name, plan, peaks, kit.left / (len(plan.names) - i))


def step_of(name: str, rows: int) -> str:
    """The name of a step of this part."""
    return f"decoding/{name}/{rows}_rows"


def measure_shape(kit: Kit, name: str, plan: Plan, peaks: Peaks, seconds: float) -> None:
    """Measure one shape with every number of rows that the time allows."""
    shape, begun, slowest = SHAPES[name], time.monotonic(), 0.0
    if kit.settings.quick:
        shape = micro(shape)
    setting = random_setting(shape, dtype=kit.settings.dtype, device=kit.device)
    as_runs_decode(setting.bank.decoder)
    generating = Generating(setting)
    for rows in plan.rows:
        if (step := step_of(name, rows)) in kit.steps:
            continue
        left = min(kit.left, seconds - (time.monotonic() - begun))
        if slowest > left:
            kit.short_of(
                f"{name}, {rows} rows", f"would take about {slowest:.0f} s of the {left:.0f} that this model has"
            )
            continue
        started = time.monotonic()
        with kit.attempt(f"{name}, {rows} rows", step):
            measure_rows(kit, replace(setting, draw=_draw(setting, rows)), generating, plan.blends, peaks)
        slowest = max(slowest, time.monotonic() - started)
        kit.tidy()


def _draw(setting: Setting, rows: int) -> Callable[[int, int], list[Any]]:
    """A function that draws batches of ``rows`` prompts, however many prompts the shape has."""

    def draw(call: int, times: int) -> list[Any]:
        each = len(setting.draw(call, 1))
        return setting.draw(call, -(-rows * times // each))[: rows * times]

    return draw


def measure_rows(kit: Kit, setting: Setting, generating: Generating, blends: int, peaks: Peaks) -> None:
    """Time one policy, blends and transformers' generate in turns."""
    ours = {
        "one_policy": one_policy(setting, 1),
        THRICE: one_policy(setting, EXPERTS),
        "blend_of_3": blended(setting, UNIFORM),
        f"{blends}_blends": blended(setting, scattered_weights(blends, EXPERTS)),
    }
    for decode in ours.values():
        decode.warm_up()
    generating.warm_up(setting)
    sides: dict[str, Side] = {name: decode.side for name, decode in ours.items()}
    sides["generate"] = generating.side(setting)
    timings = interleaved(setting.name, sides, kit.settings.repeats)
    rows = len(setting.prompts())
    for name, decode in ours.items():
        record(kit, f"decoding/{setting.name}/{rows}_rows/{name}", decode, timings, peaks)
    seconds = timings["generate"].median
    tokens = rows * setting.new_tokens / seconds
    beside = ("transformers' generate over one policy, time", seconds / timings["one_policy"].median)
    number = Number(
        "decoding", f"{setting.name}, {rows} rows, transformers' generate of one policy", tokens, "tokens/s",
        beside[1], beside[0], {"spread": timings["generate"].spread}, timings["generate"].raw,
    )  # fmt: skip
    kit.number(f"decoding/{setting.name}/{rows}_rows/generate", number)


def record(kit: Kit, key: str, decode: Decode, timings: Mapping[str, Timing], peaks: Peaks) -> None:
    """Record one decode beside its bound and beside one policy."""
    *_, name = key.split("/")
    timing, rows = timings[name], len(decode.setting.prompts()) * decode.times
    facts, bound = decode.facts(timing), decode.bound(peaks)
    also = {"share_of_bound": bound / timing.median, "over_bound": timing.median / bound, "spread": timing.spread}
    if "peak_bytes" in facts:
        also["peak_GB"] = facts["peak_bytes"] / 1e9
    if "rows_share" in facts:
        also["rows_share"] = facts["rows_share"]
    ratio, over = None, ""
    if name == "blend_of_3":
        also["over_3x_rows"] = timing.median / timings[THRICE].median
    if name != "one_policy":
        ratio = timing.median / decode.vectors / timings["one_policy"].median
        over = f"{'blend' if decode.experts > 1 else 'three batches'} over one policy, time"
        over = f"each {over}" if decode.vectors > 1 else over
    what = f"{decode.setting.name}, {rows} rows, {name.replace('_', ' ')}"
    tokens = facts["tokens_per_second"]
    kit.number(key, Number("decoding", what, tokens, "tokens/s", ratio, over, also, timing.raw))
