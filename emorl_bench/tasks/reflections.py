"""The embedded task: answer a client's statement with a reflection that is warm and sound.

The prompts come from the project's own world, split by situation (what the client does x what happened to them): 120
situations for training, 24 for selection, 24 for the report. Base models and scorers have seen statements of the 120
training situations only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from emorl_bench.assets.world.statements import SPLITS, sample_statements
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Splits
from emorl_bench.tasks.base import TaskDefaults

LARGEST_SPLIT = 20_000  # of the 144,000 statements that the situations of the smaller splits can make


@dataclass(frozen=True)
class Reflections(TaskDefaults):
    """Sizes of the splits and the seed that draws them; the same for every run of a comparison.

    ``assets`` names the world whose base models are meant by ``model=tiny_t5`` and ``model=tiny_gpt2``, and
    ``max_new_tokens`` is what ``sampling.max_new_tokens`` is unless given: the configuration reads both.
    """

    scorers: Mapping[str, Scorer]
    train: int = 2000
    select: int = 48
    report: int = 96
    split_seed: int = 0
    assets: str = "reflections"
    max_new_tokens: int = 24

    def splits(self) -> Splits:
        rows = {split: self._examples(split, getattr(self, split)) for split in SPLITS}
        digest = hashlib.sha256()
        for split, examples in rows.items():
            digest.update("\0".join([split, *(e.prompt for e in examples)]).encode())
        return Splits(rows["train"], rows["select"], rows["report"], fingerprint=digest.hexdigest()[:16])

    def _examples(self, split: str, count: int) -> tuple[Example, ...]:
        if not 1 <= count <= LARGEST_SPLIT:
            raise UserError(f"task.{split}={count} is out of range; give a number of prompts from 1 to {LARGEST_SPLIT}")
        statements = sample_statements(split, count, self.split_seed)
        return tuple(Example(f"{split}-{i}", statement.text) for i, statement in enumerate(statements))
