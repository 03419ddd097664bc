"""Counsel-Chat: answer a question that was asked on a counselling forum; see `emorl_bench.data.counsel_chat`."""

from __future__ import annotations

from dataclasses import dataclass

from emorl_bench.core.types import Example
from emorl_bench.data import counsel_chat
from emorl_bench.data.splitting import Division
from emorl_bench.tasks.corpus import CorpusTask, example_of


@dataclass(frozen=True, kw_only=True)
class CounselChat(CorpusTask):
    """The questions, each once however many therapists answered it."""

    file: str = counsel_chat.FILE

    def division(self) -> Division[counsel_chat.Row]:
        return counsel_chat.parts(counsel_chat.load(self.source()))

    def responses(self, row: counsel_chat.Row) -> tuple[str, ...]:
        return (row.answer,)

    def example(self, row: counsel_chat.Row) -> Example:
        return example_of(row.question)
