"""How much warmth and concern does the response show? Trained on EPITOME's emotional reactions, levels 0, 1, 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.data import epitome
from emorl_bench.data.sources import Source
from emorl_bench.scorer_training.levels import Graded, Levels
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.trained import Trained, judged


@dataclass(frozen=True, kw_only=True)
class Empathy(Trained):
    """The expected level, divided by 2. ``balance``: see `Levels`."""

    balance: float
    file: str = epitome.FILE
    name: str = "empathy"

    def study(self) -> Study:
        """EPITOME's posts and answers.

        Raises:
            UserError: the corpus is missing or broken.
        """
        division = epitome.parts(epitome.load(Source(self.data_dir, self.file)))
        train, report = _graded(division.parts[self.part()]), _graded(judged(division.parts))
        return Study(Levels(train, report, len(epitome.LEVELS), self.balance), self.described("EPITOME", division))


def _graded(rows: Sequence[epitome.Row]) -> list[Graded]:
    return [Graded((row.seeker, row.response), row.level, row.seeker_id) for row in rows]
