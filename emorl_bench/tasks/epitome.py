"""EPITOME: answer a post of someone in distress; see `emorl_bench.data.epitome`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import epitome
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class Epitome(CorpusTask):
    """The seekers' posts, each once."""

    file: str = epitome.FILE

    def division(self) -> Division[epitome.Row]:
        """See `CorpusTask.division`."""
        return epitome.parts(epitome.load(self.source()))

    def responses(self, row: epitome.Row) -> tuple[str, ...]:
        """The answer, where it shows some emotional reaction."""
        return (row.response,) if row.level > 0 else ()

    def example(self, row: epitome.Row) -> Example:
        """The post."""
        return example_of(row.seeker)
