"""AnnoMI: write the therapist's next turn after what a client said; see `emorl_bench.data.annomi`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import annomi
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class AnnoMi(CorpusTask):
    """Clients' turns of at least ``least_words`` words: a turn such as "Mm-hmm" gives nothing to reflect."""

    file: str = annomi.FILE
    least_words: int = 5

    def division(self) -> Division[annomi.Turn]:
        """See `CorpusTask.division`."""
        return annomi.parts(annomi.load(self.source()))

    def responses(self, row: annomi.Turn) -> tuple[str, ...]:
        """The therapist's turn, where the dialogue shows motivational interviewing of high quality."""
        return (row.therapist,) if row.quality == "high" else ()

    def example(self, row: annomi.Turn) -> Example | None:
        """The client's turn; None where it is too short."""
        return example_of(row.client) if len(row.client.split()) >= self.least_words else None
