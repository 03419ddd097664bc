"""Requirements of `sums` that need no training: what its untrained bases say, on sums that no choice looked at."""

from __future__ import annotations

from collections.abc import Iterator

from emorl_bench.assets.shipped import FAMILIES, asset_dir
from emorl_bench.assets.sums.judge import OBJECTIVES
from emorl_bench.audit.requirements import Requirement
from emorl_bench.building.sums.probe import Probe, probe

TASK = "sums"
GREEDY, BEST, DISTINCT, ILLEGAL = (0.2, 0.6), 0.02, 0.5, 0.05


def requirements() -> Iterator[Requirement]:
    for name in FAMILIES:
        yield from of_base(name, probe(name, asset_dir(f"{TASK}/{name}")))


def of_base(name: str, found: Probe) -> Iterator[Requirement]:
    """Room above, something to build on in every direction, and answers of the grammar."""
    for objective, value in zip(OBJECTIVES, found.mean(found.greedy).tolist(), strict=True):
        yield Requirement(TASK, name, f"greedy {objective}", value, *GREEDY)
    for (level, steps), (_, _, best) in found.styles().items():
        yield Requirement(TASK, name, f"share of samples that are best with {steps} steps to {level} terms", best, BEST)
    yield Requirement(TASK, name, "distinct greedy answers ÷ prompts", found.distinct(), DISTINCT)
    yield Requirement(TASK, name, "share of samples outside the grammar", found.illegal(), high=ILLEGAL)
