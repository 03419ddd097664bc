"""The true value of an answer in the world of `reflections`.

It is computed from the grammar that writes the world, without a network. Nothing is trained on it or chosen by it,
except for the proxies of the over-optimisation study, which learn from its labels. It does not apply to a prompt that
the world has not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from emorl_bench.assets.world.grades import OBJECTIVES, gold, world_key
from emorl_bench.assets.world.judge import statement_of
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import Rule


@lru_cache(maxsize=100_000)
def is_statement(prompt: str) -> bool:
    """Whether the world has written this prompt."""
    try:
        statement_of(prompt)
    except UserError:
        return False
    return True


@dataclass(frozen=True)
class Gold(Rule):
    """The grade of one ``objective``, or with None the mean of the three."""

    name: str = "gold"
    objective: str | None = None

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        """B numbers in [0, 1]; None where the prompt is no statement of the world."""
        return [self._one(example.prompt, said) for example, said in zip(examples, responses, strict=True)]

    def _one(self, prompt: str, response: str) -> float | None:
        if not is_statement(prompt):
            return None
        grades_K = gold(prompt, response)
        return sum(grades_K) / len(grades_K) if self.objective is None else grades_K[OBJECTIVES.index(self.objective)]

    def fingerprint(self) -> str:
        """Hash of the code that judges, because a changed rule is another truth."""
        return f"gold-{world_key()}"


def gold_scorers() -> dict[str, Gold]:
    """Objective of `reflections` -> its gold scorer."""
    return {name: Gold(name, name) for name in OBJECTIVES}
