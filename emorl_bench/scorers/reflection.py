"""Does the response reflect what the client said and meant? Trained on PAIR (Min et al., EMNLP 2022)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.data import pair
from emorl_bench.data.sources import Source
from emorl_bench.scorer_training.ranking import Ranking, ResponseGroup
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.trained import Trained, judged

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reflection(Trained):
    """A cross-encoder of prompt and response. It is trained to rank good reflections over simple ones over none.

    ``whole`` and ``bradley_terry``: see `Ranking`; false and 0 is the paper's loss alone.
    """

    whole: bool
    bradley_terry: float
    file: str = pair.FILE
    name: str = "reflection"

    def study(self) -> Study:
        """PAIR's prompts with their responses.

        Raises:
            UserError: the corpus is missing or broken, or a part has fewer than two complete groups.
        """
        division = pair.parts(pair.load(Source(self.data_dir, self.file)))
        train, report = _groups(division.parts[self.part()]), _groups(judged(division.parts))
        if min(len(train), len(report)) < 2:
            raise UserError(
                f"task.data_dir: {self.file}: too few prompts with responses of every quality to learn from"
            )
        return Study(Ranking(train, report, self.whole, self.bradley_terry), self.described("PAIR", division))


def _groups(rows: Sequence[pair.Row]) -> list[ResponseGroup]:
    whole = [ResponseGroup(row.prompt, row.hq, row.mq, row.lq) for row in rows if row.hq and row.mq and row.lq]
    if len(whole) < len(rows):
        log.info(
            "scorer reflection: %d prompts without responses of every quality are left out", len(rows) - len(whole)
        )
    return whole
