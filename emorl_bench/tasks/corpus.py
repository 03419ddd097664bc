"""What tasks on a corpus share: parts become splits, and no prompt of one split resembles one of another.

The policy trains on the parts that the two sets of scorers train on (scorers judge its own texts, not these). It is
selected and reported on parts that no scorer has seen. The corpus itself fixes the division, without a seed: scorers
rely on it, and every run is graded on the same prompts.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Splits
from emorl_bench.data.sources import Source
from emorl_bench.data.splitting import Division, normal, protected
from emorl_bench.tasks.base import TaskDefaults

SPLITS = {"train": ("scorer", "held_out"), "select": ("select",), "report": ("report",)}  # split -> parts of a corpus


@dataclass(frozen=True, kw_only=True)
class CorpusTask(TaskDefaults, ABC):
    """Prompts from a file in ``data_dir``, or from a data set of the hub.

    ``system_prompt`` is for chat models, ``template`` for all others. ``train``, ``select`` and ``report`` limit the
    number of prompts of a split; None is all. ``max_new_tokens`` is the default of ``sampling.max_new_tokens``: the
    configuration reads it.
    """

    scorers: Mapping[str, Scorer] = field(hash=False)
    data_dir: str | None
    file: str
    hub: str | None = None
    revision: str | None = None
    system_prompt: str | None = None
    template: str = "{prompt}"
    train: int | None = None
    select: int | None = None
    report: int | None = None
    max_new_tokens: int = 64

    @abstractmethod
    def division(self) -> Division[Any]:
        """The corpus, divided into parts."""

    @abstractmethod
    def example(self, row: Any) -> Example | None:
        """The prompt of a row; None where it gives none."""

    def responses(self, row: Any) -> Sequence[str]:
        """Answers to a row's prompt that people have written; none by default."""
        return ()

    def demonstrations(self, split: str) -> list[tuple[Example, str]]:
        """(prompt, written answer) pairs of one split, for supervised fine-tuning."""
        prompts = {example.id: example for example in getattr(self.splits(), split)}
        rows = (row for part in SPLITS[split] for row in self.division().parts.get(part, ()))
        found = ((self.example(row), response) for row in rows for response in self.responses(row))
        return [(prompts[e.id], text) for e, text in found if e is not None and e.id in prompts and text.strip()]

    def splits(self) -> Splits:
        """All splits; each prompt is in them once.

        Raises:
            UserError: a setting is out of range, the corpus is missing or broken, or a split would be empty.
        """
        self.check()
        return _splits(self)

    def check(self) -> None:
        """Check settings that no type can rule out.

        Raises:
            UserError: one of them is wrong.
        """
        if self.template.count("{prompt}") != 1:
            raise UserError(f"task.template={self.template!r}: write {{prompt}} once, where the prompt goes")
        for split in SPLITS:
            most = getattr(self, split)
            if most is not None and most < 1:
                raise UserError(f"task.{split}={most}: give 1 or more prompts, or null for all of them")

    def arranged(self, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples in an order without meaning, so that the first ones are a fair sample."""
        return sorted(examples, key=lambda example: example.id)

    def source(self, file: str | None = None, config: str | None = None, split: str = "train") -> Source:
        """Where a file of the corpus is; the task's own file by default."""
        return Source(self.data_dir, file or self.file, self.hub, self.revision, config, split)

    def prompts(self, division: Division[Any], parts: Iterable[str]) -> list[Example]:
        """The prompts of some parts, each once."""
        rows = (row for part in parts for row in division.parts.get(part, ()))
        found = (example for row in rows if (example := self.example(row)) is not None)
        return list({normal(example.prompt): example for example in found}.values())


def example_of(prompt: str, answer: str | None = None) -> Example:
    """An example whose id is a hash of its prompt."""
    return Example(hashlib.sha256(prompt.encode()).hexdigest()[:12], prompt, answer=answer)


@lru_cache(maxsize=4)  # a run calls this several times, and a corpus may have 25,000 reviews
def _splits(task: CorpusTask) -> Splits:
    division = task.division()
    prompts = {split: task.prompts(division, parts) for split, parts in SPLITS.items()}
    apart = protected(prompts, lambda example: example.prompt)
    chosen = {split: task.arranged(apart.parts[split])[: getattr(task, split)] for split in SPLITS}
    removed = sum(division.removed.values()) + sum(apart.removed.values())
    for split, examples in chosen.items():
        if not examples:
            raise UserError(
                f"task.data_dir: {task.file} leaves no prompts for the {split} split "
                f"({removed} near-duplicates of later splits removed); give more data"
            )
    return Splits(chosen["train"], chosen["select"], chosen["report"], _fingerprint(chosen), removed)


def _fingerprint(splits: Mapping[str, Sequence[Example]]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for text in (split, *(text for e in examples for text in (e.prompt, e.answer or ""))):
            digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()[:16]
