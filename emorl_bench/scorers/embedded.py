"""The learned scorers of `reflections`: one objective of the shipped set that methods train against, or of its twin.

``twin: train`` is a network that reads the answer and its prompt (`assets.reader`). ``twin: held_out`` is a logistic
regression on n-grams (`assets.ngrams`). It was trained on the other half of the situations, and is used in the report
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from emorl_bench.assets.scoring import TWINS, grades
from emorl_bench.assets.shipped import content_key
from emorl_bench.assets.world.grades import OBJECTIVES
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import DeviceScorer


@dataclass(frozen=True)
class Embedded(DeviceScorer):
    """A shipped scorer. ``name``: reflection, empathy or fluency."""

    name: str
    twin: str = "train"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``name`` or ``twin`` is unknown.
        """
        for key, value, known in (("name", self.name, OBJECTIVES), ("twin", self.twin, TWINS)):
            if value not in known:
                raise UserError(f"embedded scorer: {key}={value!r} is unknown{did_you_mean(value, known)}")

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1], on the CPU."""
        scores_BK = grades(self.twin, self.device, [example.prompt for example in examples], responses)
        return scores_BK[:, OBJECTIVES.index(self.name)]

    def prepare(self) -> None:
        """Nothing: the weights are shipped."""

    def held_out(self) -> Self:
        """The scorer of the same objective from the held-out set."""
        return replace(self, twin="held_out")

    def fingerprint(self) -> str:
        """Name, twin and the hash of all embedded assets."""
        return f"{self.name}-{self.twin}-{content_key()}"
