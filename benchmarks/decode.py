"""Decoding: blends of three experts against the published procedure, against one policy, and against the machine.

Keys of the last line: ``decode_one_*``, ``decode_27_*`` and ``decode_tree`` are the naive seconds for a weight vector
over ours. ``blend_over_single`` and ``weights_memory`` are ours over one policy's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.embedded import trained_setting
from benchmarks.memory import weight_bytes
from benchmarks.models import SHAPES, STRONG, WEAK, Setting, Shape, micro, random_setting
from benchmarks.naive import Naive, naive
from benchmarks.ours import Decode, blended, one_policy, scattered_weights
from benchmarks.record import Record, options, run
from benchmarks.timing import Side, interleaved, say, timed
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.indicators.fronts import simplex_grid

VECTORS, DIVISIONS = 27, 8
ENOUGH = 390  # seconds after which no optional row is begun
UNIFORM = (1 / 3, 1 / 3, 1 / 3)
EMBEDDED = "embedded"
DEFAULT = "tiny,small,embedded"
HELP = f"what is decoded, of {', '.join([*SHAPES, EMBEDDED])}"


def main(argv: Sequence[str] | None) -> None:
    """Run the benchmark.

    Raises:
        UserError: a shape is unknown, or what `options` raises.
    """
    given = options("decode", __doc__, argv, {"shapes": (DEFAULT, HELP)})
    names = given.extra["shapes"].split(",")
    for name in names:
        if name not in (*SHAPES, EMBEDDED):
            raise UserError(f"--shapes={name}: unknown shape{did_you_mean(name, [*SHAPES, EMBEDDED])}")
    record = Record(given)
    shapes = [micro(SHAPES[name]) if given.quick else SHAPES[name] for name in names if name != EMBEDDED]
    if shapes:
        memory(record, shapes[-1])
    single = [measure_shape(record, shape) for shape in shapes]
    if single:
        record.ratio("blend_over_single", max(single))
    if EMBEDDED in names:
        measure_tree(record)
    report_variants(record, shapes)
    record.close()


def memory(record: Record, shape: Shape) -> None:
    """Note the bytes of weights that are alive while three experts are blended, over a base model with one adapter."""
    found = weight_bytes(shape, record.options.dtype, record.options.device)
    record.notes["weights_memory"] = {"shape": shape.name, **vars(found), "over_one_decoding": found.three / found.one}
    record.ratio("weights_memory", found.three / found.bare)


def measure_shape(record: Record, shape: Shape) -> float:
    """Measure one shape.

    Returns:
        the blend's time over one policy's for as many rows.
    """
    record.use_threads(shape.threads)
    setting = random_setting(shape, dtype=record.options.dtype, device=record.options.device)
    experts = len(setting.experts)
    plain = naive(setting)
    ours = {
        "one weight vector": blended(setting, torch.tensor([UNIFORM], dtype=torch.float64)),
        f"one policy, {experts} x the prompts": one_policy(setting, experts),
        f"{VECTORS} weight vectors": blended(setting, scattered_weights(VECTORS, experts)),
    }
    per_vector = compare(record, setting, plain, ours)
    record.ratio(f"decode_one_{shape.name}", per_vector["naive"] / per_vector["one weight vector"])
    record.ratio(f"decode_{VECTORS}_{shape.name}", per_vector["naive"] / per_vector[f"{VECTORS} weight vectors"])
    return per_vector["one weight vector"] / per_vector[f"one policy, {experts} x the prompts"]


def measure_tree(record: Record) -> None:
    """Measure one decode of the whole front of the embedded task's trained experts."""
    record.use_threads(1)
    given = record.options
    if given.quick:
        setting = replace(random_setting(micro(SHAPES["tiny"]), dtype=given.dtype, device=given.device), name=EMBEDDED)
    else:
        say(f"{EMBEDDED}: training three experts if they are not in the cache (about a minute)")
        setting = trained_setting(given.dtype, given.device)
    weights_WM = front(len(setting.experts))
    what = f"{len(weights_WM)} simplex weights"
    per_vector = compare(record, setting, naive(setting), {what: blended(setting, weights_WM)})
    record.ratio("decode_tree", per_vector["naive"] / per_vector[what])


def front(experts: int) -> Tensor:
    """(W, M) the simplex lattice of eighths: 45 for three experts."""
    grid_WM = torch.from_numpy(simplex_grid(experts, DIVISIONS))
    return grid_WM[((grid_WM * DIVISIONS).frac() == 0).all(1)]  # this drops the centre, which the grid adds


def compare(record: Record, setting: Setting, plain: Naive, ours: Mapping[str, Decode]) -> dict[str, float]:
    """The naive side and ours in turns, each a row; seconds per weight vector by name."""
    given = record.options
    for decode in ours.values():
        decode.warm_up()
    sides: dict[str, Side] = {"naive": lambda: plain.seconds(UNIFORM)}
    timings = interleaved(setting.name, sides | {name: decode.side for name, decode in ours.items()}, given.repeats)
    record.notes["naive_method"] = plain.method
    record.row(f"{setting.name}: naive, one weight vector", timings["naive"])
    for name, decode in ours.items():
        bound, facts = decode.bound(record.peaks), decode.facts(timings[name])
        record.row(f"{setting.name}: {name}", timings[name], vectors=decode.vectors, bound=bound, **facts)
    vectors = {name: decode.vectors for name, decode in ours.items()}
    return {name: timing.median / vectors.get(name, 1) for name, timing in timings.items()}


def report_variants(record: Record, shapes: Sequence[Shape]) -> None:
    """Rows that no ratio rests on, measured once each, and left out when time is short."""
    given, rows = record.options, f"{VECTORS} weight vectors"
    variants = [(shape, f"{rows}, adapters {WEAK} of the base", given.dtype, WEAK) for shape in shapes]
    if given.dtype == torch.float32:
        variants = [(shape, f"{rows}, bfloat16", torch.bfloat16, STRONG) for shape in shapes] + variants
    for shape, what, dtype, strength in variants:
        if in_time(record, f"{shape.name}: {what}"):
            record.use_threads(shape.threads)
            setting = random_setting(shape, dtype=dtype, device=given.device, strength=strength)
            decode = blended(setting, scattered_weights(VECTORS, len(setting.experts)))
            decode.warm_up()
            timing = interleaved(f"{shape.name}: {what}", {"ours": decode.side}, 1)["ours"]
            record.row(f"{shape.name}: {what}", timing, vectors=VECTORS, **decode.facts(timing))
    for shape in shapes:
        if shape.name == "tiny" and in_time(record, "tiny: naive variants"):
            report_naive(record, naive(random_setting(shape, dtype=given.dtype, device=given.device)))


def in_time(record: Record, what: str) -> bool:
    """Whether another optional row may begin; if not, the row is noted as left out."""
    if record.elapsed < ENOUGH:
        return True
    say(f"{what}: left out, {record.elapsed:.0f} s have passed")
    record.notes.setdefault("left_out", []).append(what)
    return False


def report_naive(record: Record, plain: Naive) -> None:
    """Time one whole naive decode beside its integral, and the integral with autograd left on, once each."""
    record.use_threads(SHAPES["tiny"].threads)
    whole = timed(lambda: lambda: plain.decode(UNIFORM), record.options.device)
    sides: dict[str, Side] = {"integral": lambda: plain.seconds(UNIFORM), "whole decode": whole}
    timings = interleaved("tiny: naive", sides, 1)
    record.row("tiny: naive, a whole decode instead of the integral", timings["whole decode"])
    record.notes["naive_integral_over_whole"] = timings["integral"].median / timings["whole decode"].median
    for model in plain.models:
        model.requires_grad_(True)
    sides = {"integral": lambda: plain.seconds(UNIFORM, autograd=True)}
    record.row("tiny: naive, autograd left on as released", interleaved("tiny: autograd on", sides, 1)["integral"])


if __name__ == "__main__":
    sys.exit(run(main))
