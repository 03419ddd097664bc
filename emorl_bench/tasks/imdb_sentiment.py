"""IMDB: continue the first words of a film review, favourably (CORY, 2410.06101); see `emorl_bench.data.imdb`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import seed_for
from emorl_bench.core.types import Example
from emorl_bench.data import imdb
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class ImdbSentiment(CorpusTask):
    """The first ``shortest`` to ``longest`` words of each review; a seeded draw decides how many.

    Reviews that begin alike give one prompt. A prompt is in one split only, whichever reviews it comes from.
    """

    file: str = imdb.FILE
    shortest: int = 2
    longest: int = 8
    opening_seed: int = 0
    max_new_tokens: int = 20

    def check(self) -> None:
        """See `CorpusTask.check`."""
        super().check()
        if not 1 <= self.shortest <= self.longest:
            raise UserError(
                f"task.shortest={self.shortest} and task.longest={self.longest}: give 1 <= shortest <= longest words"
            )

    def division(self) -> Division[imdb.Row]:
        """See `CorpusTask.division`."""
        return imdb.parts(imdb.load(self.source()))

    def example(self, row: imdb.Row) -> Example:
        """The first words of the review."""
        spread = self.longest - self.shortest + 1
        words = self.shortest + seed_for(self.opening_seed, "imdb opening", row.text) % spread
        return example_of(" ".join(row.text.split()[:words]))
