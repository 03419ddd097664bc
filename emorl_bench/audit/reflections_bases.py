"""Requirements that need no training: of the world's best answers and of what the untrained bases say."""

from __future__ import annotations

from collections.abc import Iterator

from emorl_bench.assets.shipped import FAMILIES, asset_dir
from emorl_bench.assets.world.best import inside
from emorl_bench.assets.world.statements import sample_statements
from emorl_bench.audit.requirements import Requirement
from emorl_bench.building.reflections.probe import MOST_WORDS, base_policy, probe

TASK, PROMPTS, SEED = "reflections", 96, 17
INSIDE, SAMPLED, UNPARSED = 0.10, 0.02, 0.20


def requirements() -> Iterator[Requirement]:
    """On statements of the audit situations."""
    prompts = [statement.text for statement in sample_statements("audit", PROMPTS, SEED)]
    yield Requirement(TASK, "", "inside of the front, by enumeration", inside(prompts, MOST_WORDS), INSIDE)
    for name in FAMILIES:
        found = probe(base_policy(name, asset_dir(f"{TASK}/{name}")), prompts)
        for quality, share in found.qualities.items():
            yield Requirement(TASK, name, f"share of samples whose {quality} is a best answer's", share, SAMPLED)
        yield Requirement(TASK, name, "share of samples with all that the best answers have", found.together, SAMPLED)
        yield Requirement(TASK, name, "share of samples outside the grammar", found.unparsed, high=UNPARSED)
