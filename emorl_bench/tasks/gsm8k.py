"""GSM8K: solve a word problem and end with ``#### number`` (CORY, 2410.06101); see `emorl_bench.data.gsm8k`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import gsm8k
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class Gsm8k(CorpusTask):
    """Word problems. The published training questions train and select; the published test questions report.

    An example holds the reference number for the scorers; no policy reads it.
    """

    file: str = gsm8k.FILE
    test_file: str = gsm8k.TEST_FILE
    hub_config: str | None = "main"
    max_new_tokens: int = 256

    def division(self) -> Division[gsm8k.Row]:
        """See `CorpusTask.division`."""
        test = gsm8k.load(self.source(self.test_file, self.hub_config, split="test"))
        return gsm8k.parts(gsm8k.load(self.source(config=self.hub_config)), test)

    def responses(self, row: gsm8k.Row) -> tuple[str, ...]:
        """The worked answer."""
        return (row.answer,)

    def example(self, row: gsm8k.Row) -> Example:
        """The question, with the reference number."""
        return example_of(row.question, row.final)
