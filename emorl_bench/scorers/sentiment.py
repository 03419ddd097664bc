"""How positive is the text? Trained on SST-2's sentences or IMDB's reviews."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.seeds import seed_for
from emorl_bench.data import imdb, sst2
from emorl_bench.data.sources import Source
from emorl_bench.data.splitting import Division, protected
from emorl_bench.scorer_training.levels import Graded, Levels
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.trained import Trained, judged

CORPORA: Mapping[str, ModuleType] = {"sst2": sst2, "imdb": imdb}
TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Sentiment(Trained):
    """The probability that prompt and response, read as one text, are positive.

    ``corpus`` is sst2 or imdb. The scorer is judged on ``test_file``, the corpus' own test, where one is given (SST-2's
    training rows are phrases of one another's sentences); otherwise on the parts that no twin learns from. It learns
    from ``limit`` rows, drawn once, and is judged on ``judge_limit`` rows; null is all.
    """

    corpus: str
    file: str | None = None
    test_file: str | None
    limit: int | None
    judge_limit: int | None
    balance: float = 0.0
    name: str = "sentiment"

    def check(self, owner: str) -> None:
        """See `Settings.check`."""
        super().check(owner)
        if self.corpus not in CORPORA:
            raise UserError(f"scorer {owner}: corpus={self.corpus}: unknown{did_you_mean(self.corpus, CORPORA)}")
        for key in ("limit", "judge_limit"):
            if (value := getattr(self, key)) is not None and value < 2:
                raise UserError(f"scorer {owner}: {key}={value}: give 2 or more, or null for all rows")

    def study(self) -> Study:
        """The corpus' texts with their labels.

        Raises:
            UserError: the corpus is missing or broken.
        """
        corpus = CORPORA[self.corpus]
        division = corpus.parts(corpus.load(Source(self.data_dir, self.file or corpus.FILE)))
        report, judged_on = judged(division.parts), ""
        if self.test_file is not None:
            report, judged_on = corpus.load(Source(self.data_dir, self.test_file)), self.test_file
            division = _protected(division, self.part(), report)
        train = self._drawn(division.parts[self.part()], self.limit)
        subject = Levels(_graded(train), _graded(self._drawn(report, self.judge_limit)), 2, self.balance)
        return Study(subject, self.described(self.corpus, division, judged_on))

    def _drawn(self, rows: Sequence[Any], limit: int | None) -> list[Any]:
        if limit is None or limit >= len(rows):
            return list(rows)
        return random.Random(seed_for(0, "sentiment", "rows")).sample(list(rows), limit)


def _protected(division: Division[Any], part: str, test: Sequence[Any]) -> Division[Any]:
    """The division; rows of the training part that are nearly equal to a row of the test are removed."""
    found = protected({part: division.parts[part], TEST: test}, lambda row: row.text)
    parts = {**division.parts, part: found.parts[part], TEST: list(test)}
    removed = {**division.removed, part: division.removed[part] + found.removed[part]}
    return Division(parts, removed, found.fingerprint)


def _graded(rows: Sequence[Any]) -> list[Graded]:
    return [Graded(("", row.text), row.label, row.text) for row in rows]
