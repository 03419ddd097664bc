"""Scaling: what one more expert, weight vector, objective or prompt costs, as curves.

Keys of the last line: the seconds at the far end of each curve over those at its near end. Those of weight vectors and
prompts are for each vector and each prompt, so a number below 1 means that decoding more of them together pays.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.models import SHAPES, Shape, micro, random_setting
from benchmarks.naive import naive
from benchmarks.ours import Decode, blended, scattered_weights
from benchmarks.record import Options, Record, options, run
from benchmarks.scaling_plot import Curve, plot_curves
from benchmarks.search import Search, published_evaluations
from benchmarks.timing import Side, Timing, interleaved
from emorl_bench.core.errors import UserError, did_you_mean

Points = dict[int, Timing]
EXPERTS, VECTORS, OBJECTIVES, PROMPTS = (1, 2, 4, 8), (1, 4, 16, 64), (2, 3, 4, 5, 6), (1, 4, 16, 64)
QUICK = 2  # points of each curve


def main(argv: Sequence[str] | None) -> None:
    """Run the benchmark, and draw the curves beside the record.

    Raises:
        UserError: the shape is unknown, or what `options` raises.
    """
    given = options("scaling", __doc__, argv, {"shape": ("tiny", f"one of {', '.join(SHAPES)}")})
    name = given.extra["shape"]
    if name not in SHAPES:
        raise UserError(f"--shape={name}: unknown shape{did_you_mean(name, SHAPES)}")
    shape = micro(SHAPES[name]) if given.quick else SHAPES[name]
    record = Record(given)
    record.use_threads(shape.threads)
    experts = over_experts(record, shape)
    vectors = over_vectors(record, shape)
    prompts = over_prompts(record, shape)
    searches, published = over_objectives(record, shape)
    far_over_near(record, "experts", experts)
    far_over_near(record, "weights", vectors, each=True)
    far_over_near(record, "batch", prompts, each=True)
    far_over_near(record, "objectives", searches)
    curves = [
        Curve("Experts in a blend", "experts", experts),
        Curve("Weight vectors in one decode", "weight vectors", vectors),
        Curve("Prompts in one decode", "prompts", prompts),
        Curve("Search for one preference", "objectives", searches, published),
    ]
    picture = given.out.with_suffix(".png")
    plot_curves(picture, f"{shape.name}, {given.device.type}, {record.threads} thread(s)", curves)
    print(f"drawn: {picture}")
    record.close()


def over_experts(record: Record, shape: Shape) -> Points:
    """Time blends of different numbers of experts."""
    decodes = {m: _decode(shape, record.options, experts=m) for m in _points(EXPERTS, record.options)}
    return _measured(record, "experts", decodes)


def over_vectors(record: Record, shape: Shape) -> Points:
    """Time decodes of different numbers of weight vectors."""
    decodes = {w: _decode(shape, record.options, vectors=w) for w in _points(VECTORS, record.options)}
    return _measured(record, "weight vectors", decodes)


def over_prompts(record: Record, shape: Shape) -> Points:
    """Time decodes of different numbers of prompts."""
    sizes = _points(PROMPTS, record.options)
    return _measured(record, "prompts", {b: _decode(replace(shape, prompts=b), record.options) for b in sizes})


def over_objectives(record: Record, shape: Shape) -> tuple[Points, dict[int, float]]:
    """Time whole searches with one expert for each objective.

    Returns:
        the times by the number of objectives, and the seconds of the published grid with naive evaluations.
    """
    given = record.options
    searches = {k: Search(shape, given, experts=k) for k in _points(OBJECTIVES, given)}
    plain = naive(random_setting(shape, experts=1, dtype=given.dtype, device=given.device))
    sides: dict[str, Side] = {f"{k} objectives": search.side for k, search in searches.items()}
    timings = interleaved("search", sides | {"naive, one expert": lambda: plain.seconds([1.0])}, given.repeats)
    for k, search in searches.items():
        timing = timings[f"{k} objectives"]
        record.row(f"search, {k} objectives", timing, bound=search.bound(record.peaks), **search.facts(timing))
    one_expert = timings["naive, one expert"].median
    record.row("naive evaluation with one expert", timings["naive, one expert"])
    record.notes["naive_method"] = f"{plain.method}; K experts cost K times as much as one"
    published = {k: published_evaluations(k) * k * one_expert for k in searches}
    return {k: timings[f"{k} objectives"] for k in searches}, published


def _decode(shape: Shape, given: Options, *, experts: int = 3, vectors: int = 1) -> Decode:
    setting = random_setting(shape, experts=experts, dtype=given.dtype, device=given.device)
    return blended(setting, scattered_weights(vectors, experts))


def _measured(record: Record, what: str, decodes: Mapping[int, Decode]) -> Points:
    for decode in decodes.values():
        decode.warm_up()
    sides = {f"{n} {what}": decode.side for n, decode in decodes.items()}
    timings = interleaved(what, sides, record.options.repeats)
    for n, decode in decodes.items():
        timing = timings[f"{n} {what}"]
        bound, facts = decode.bound(record.peaks), decode.facts(timing)
        record.row(f"{n} {what}", timing, vectors=decode.vectors, bound=bound, **facts)
    return {n: timings[f"{n} {what}"] for n in decodes}


def _points(values: Sequence[int], given: Options) -> Sequence[int]:
    return values[:QUICK] if given.quick else values


def far_over_near(record: Record, what: str, points: Points, *, each: bool = False) -> None:
    """Note the time at the far end of a curve over that at its near end; with ``each``, for each unit of size."""
    near, far = min(points), max(points)
    ratio = points[far].median / points[near].median
    record.ratio(f"{what}_{far}_over_{near}", ratio * near / far if each else ratio)


if __name__ == "__main__":
    sys.exit(run(main))
