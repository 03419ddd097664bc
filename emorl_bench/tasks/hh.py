r"""HH: answer as a helpful and harmless assistant; see `emorl_bench.data.hh`.

Prompts keep the corpus' own form, turns that begin with "\n\nHuman:" and "\n\nAssistant:": reward models are
trained on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import hh
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class Hh(CorpusTask):
    """Dialogues up to the assistant's next answer."""

    file: str = hh.FILE

    def division(self) -> Division[hh.Row]:
        """See `CorpusTask.division`."""
        return hh.parts(hh.load(self.source()))

    def responses(self, row: hh.Row) -> tuple[str, ...]:
        """The chosen answer."""
        return (row.chosen,)

    def example(self, row: hh.Row) -> Example:
        """The dialogue."""
        return example_of(row.prompt)
