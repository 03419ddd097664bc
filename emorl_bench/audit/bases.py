"""Requirements that need no training: of the best answers, and of the untrained base models' answers.

The prompts are ones that no choice in the design of the tasks has looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from emorl_bench.assets.shipped import FAMILIES, asset_dir
from emorl_bench.assets.sums.judge import OBJECTIVES
from emorl_bench.assets.world.best import inside
from emorl_bench.assets.world.statements import sample_statements
from emorl_bench.audit.requirements import Requirement
from emorl_bench.building.reflections import probe as reflections
from emorl_bench.building.sums import probe as sums

PROMPTS, SEED = 96, 17  # statements of the audit situations
INSIDE, SAMPLED, UNPARSED = 0.10, 0.02, 0.20  # of `reflections`
GREEDY, BEST, DISTINCT, ILLEGAL = (0.2, 0.6), 0.02, 0.5, 0.05  # of `sums`


def requirements() -> Iterator[Requirement]:
    """The requirements of both embedded tasks."""
    yield from of_reflections()
    for name in FAMILIES:
        yield from of_sums(name, sums.probe(name, asset_dir(f"sums/{name}")))


def of_reflections() -> Iterator[Requirement]:
    """The requirements of `reflections`, on statements of the audit situations."""
    task = "reflections"
    prompts = [statement.text for statement in sample_statements("audit", PROMPTS, SEED)]
    share = inside(prompts, reflections.MOST_WORDS)
    yield Requirement(task, "", "inside of the front, by enumeration", share, INSIDE)
    for name in FAMILIES:
        found = reflections.probe(reflections.base_policy(name, asset_dir(f"{task}/{name}")), prompts)
        for quality, share in found.qualities.items():
            yield Requirement(task, name, f"share of samples whose {quality} is a best answer's", share, SAMPLED)
        yield Requirement(task, name, "share of samples with all that the best answers have", found.together, SAMPLED)
        yield Requirement(task, name, "share of samples outside the grammar", found.unparsed, high=UNPARSED)


def of_sums(name: str, found: sums.Probe) -> Iterator[Requirement]:
    """The requirements of one base model of `sums`: room for improvement, samples of every style, legal answers."""
    task = "sums"
    for objective, value in zip(OBJECTIVES, found.mean(found.greedy).tolist(), strict=True):
        yield Requirement(task, name, f"greedy {objective}", value, *GREEDY)
    for (level, steps), (_, _, best) in found.styles().items():
        yield Requirement(task, name, f"share of samples that are best with {steps} steps to {level} terms", best, BEST)
    yield Requirement(task, name, "distinct greedy answers ÷ prompts", found.distinct(), DISTINCT)
    yield Requirement(task, name, "share of samples outside the grammar", found.illegal(), high=ILLEGAL)
