"""Choices that only a measurement can make: how a decode is driven, and whether experts share passes.

A switch is a field of the decoder. Every value decodes the same prompts, and must say the same but for rounding.
Whether experts go together is measured in the part ``training``; its verdict is in the same table.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.gpu.kit import Kit, Number
from benchmarks.models import SHAPES, Setting, micro, random_setting
from benchmarks.ours import one_policy
from benchmarks.timing import Side, interleaved
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.decoding.graphs import CudaGraph
from emorl_bench.decoding.measuring import time_graphs
from emorl_bench.runner.throughput import check_every

SHAPE = "smollm2_135m"
ROWS = (24, 64, 256)
TITLE = "Choices by measurement"
SAME = {torch.bfloat16: 1 / 3}  # share of greedy answers that must be equal; all of them in other types
CLEAR = 1.05  # less than this is within what repeated runs differ by
JOINT = re.compile(r"training/three_experts/(?P<rows>\d+)_rows/(?P<step>rollout|update)")


@dataclass(frozen=True)
class Switch:
    """A field of the decoder with several values.

    Attributes:
        name: the key of ``hardware`` in a configuration.
        field: the field of `Decoder`.
        values: name -> value of what is compared; the first is what the others are over.
        beside: other fields of the decoder that it needs, with their values.
        needs_gpu: whether there is nothing to compare without one.
    """

    name: str
    field: str
    values: Mapping[str, Any]
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs_gpu: bool = False


SWITCHES = (
    Switch("hardware.check_every", "check_every", {"1": 1, "4": 4, "16": 16, "64": 64}),
    Switch(
        "hardware.graphs", "record", {"false": None, "true": CudaGraph},
        beside={"check_every": check_every({}, torch.device("cuda"))}, needs_gpu=True,
    ),
)  # fmt: skip


def as_runs_decode(decoder: Decoder) -> None:
    """Let a decoder do for speed what one of a run does on its device, and count no operations."""
    device = decoder.backbone.device
    decoder.ledger.flops_every = 0
    decoder.check_every = check_every({}, device)
    if device.type == "cuda" and decoder.fused is not None and decoder.check_every > 1:
        decoder.record = CudaGraph if time_graphs(decoder.backbone, decoder.fused, CudaGraph).pays else None


def measure_choices(kit: Kit) -> None:
    """Time every value of every switch, and make the table."""
    for switch in SWITCHES:
        if switch.needs_gpu and kit.device.type != "cuda":
            kit.skip(switch.name, "it needs a GPU")
            continue
        setting = None
        for rows in (4,) if kit.settings.quick else ROWS:
            step = f"choices/{switch.field}/{rows}_rows"
            if kit.wants(f"{switch.name}, {rows} rows", step, 5.0):
                setting = setting or new_setting(kit)
                with kit.attempt(f"{switch.name}, {rows} rows", step):
                    compare(kit, switch, sized(setting, rows))
    kit.tables[TITLE] = verdicts({key: number.ratio for key, number in kit.numbers.items()})


def new_setting(kit: Kit) -> Setting:
    """One policy with random weights."""
    shape = micro(SHAPES[SHAPE]) if kit.settings.quick else SHAPES[SHAPE]
    setting = random_setting(shape, experts=1, dtype=kit.settings.dtype, device=kit.device)
    setting.bank.decoder.ledger.flops_every = 0  # a decode whose operations are counted uses no graphs
    return setting


def sized(setting: Setting, rows: int) -> Setting:
    """The same policy with so many prompts."""

    def draw(call: int, times: int) -> list[Any]:
        each = len(setting.draw(call, 1))
        return setting.draw(call, -(-rows * times // each))[: rows * times]

    return replace(setting, draw=draw)


def compare(kit: Kit, switch: Switch, setting: Setting) -> None:
    """Time all values in turns.

    Raises:
        AssertionError: a value gave other answers to the same prompts than the first, by more than rounding explains.
    """
    decoder, decode = setting.bank.decoder, one_policy(setting, 1)
    names = (switch.field, *switch.beside)
    before, examples, rows = [getattr(decoder, name) for name in names], setting.prompts(), len(setting.prompts())
    sides: dict[str, Side] = {}
    said: dict[str, torch.Tensor] = {}
    try:
        for name, value in switch.beside.items():
            setattr(decoder, name, value)
        for name, value in switch.values.items():
            setattr(decoder, switch.field, value)
            greedy = Sampling(setting.new_tokens, temperature=0.0)
            said[name] = decode.sampler.generate(examples, greedy, stream(0)).response_ids_BT
            sides[name] = with_value(decoder, switch.field, value, decode.side)
        timings = interleaved(f"{switch.name}, {rows} rows", sides, kit.settings.repeats)
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(decoder, name, value)
    first, *others = switch.values
    for other in others:
        same = float((said[first] == said[other]).all(1).float().mean())
        if same < SAME.get(kit.settings.dtype, 1.0):
            raise AssertionError(f"{switch.name}={other}: {same:.0%} of the answers are those under {first}")
        seconds, least = timings[other], timings[first]
        number = Number(
            "choices", f"{setting.name}, {rows} rows, {switch.name}={other}", seconds.median, "s",
            least.median / seconds.median, f"{first} over it, time", {"same_answers": same, "spread": seconds.spread},
            seconds.raw,
        )  # fmt: skip
        kit.number(f"choices/{switch.field}/{rows}_rows/{other}", number)


def with_value(decoder: Decoder, name: str, value: object, side: Side) -> Side:
    """The same side under one value of a switch."""

    def timed() -> float:
        setattr(decoder, name, value)
        return side()

    return timed


def verdicts(ratios: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """One row for each choice and number of rows: what gains, by how much, and what follows.

    Args:
        ratios: time of the usual way over the other's, by key of the number; above 1 the other is faster.
    """
    rows: list[dict[str, Any]] = []
    for key, ratio in ratios.items():
        named = name_of(key)
        if named is not None and ratio is not None:
            what, count = named
            follows = "on" if ratio >= CLEAR else "off" if ratio <= 1 / CLEAR else "makes no difference"
            rows.append({"choice": what, "rows": count, "faster by": ratio, "follows": follows})
    return rows


def name_of(key: str) -> tuple[str, int] | None:
    """What is chosen, and at how many rows; None for a number that decides nothing."""
    if (match := JOINT.fullmatch(key)) is not None:
        return f"{match['step']} of three experts together", int(match["rows"])
    if (match := re.fullmatch(r"choices/(\w+)/(\d+)_rows/(\w+)", key)) is not None:
        return f"{match[1]}={match[3]}", int(match[2])
    return None
