"""Is an answer to a sum right, brief or worked? These rules are the truth (`emorl_bench.assets.sums.judge`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.assets.sums.judge import OBJECTIVES, judge, rules_key
from emorl_bench.assets.sums.prompts import is_sum, terms_of
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class SumScorer(Rule):
    """One objective of `sums`: right, brief or worked. It does not apply where the prompt is no sum."""

    name: str

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``name`` is unknown.
        """
        if self.name not in OBJECTIVES:
            raise UserError(f"scorer {self.name}: of a sum is unknown{did_you_mean(self.name, OBJECTIVES)}")

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        """B numbers in [0, 1]; None where the prompt is no sum."""
        return [self._one(example.prompt, said) for example, said in zip(examples, responses, strict=True)]

    def _one(self, prompt: str, response: str) -> float | None:
        return float(getattr(judge(terms_of(prompt), response), self.name)) if is_sum(prompt) else None

    def fingerprint(self) -> str:
        """Class, name and the hash of the code that judges."""
        return f"{type(self).__qualname__}-{self.name}-{rules_key()}"
