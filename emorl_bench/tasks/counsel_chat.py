"""Counsel-Chat: answer a question from a counselling forum; see `emorl_bench.data.counsel_chat`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import counsel_chat
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class CounselChat(CorpusTask):
    """The questions; each is there once, however many therapists answered it."""

    file: str = counsel_chat.FILE

    def division(self) -> Division[counsel_chat.Row]:
        """See `CorpusTask.division`."""
        return counsel_chat.parts(counsel_chat.load(self.source()))

    def responses(self, row: counsel_chat.Row) -> tuple[str, ...]:
        """The answer of a therapist."""
        return (row.answer,)

    def example(self, row: counsel_chat.Row) -> Example:
        """The question."""
        return example_of(row.question)
