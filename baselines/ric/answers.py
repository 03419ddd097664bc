"""Answers that a method has had judged and learns from again and again, kept on disk as they come.

One JSON object a line, in the form that `baselines.offline` reads, with the ids that were sampled beside the text.
Every line names the step that it comes from: a run that resumes at a step drops what came later, and collects it anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.masked import or_none
from emorl_bench.core.protocols import Bench
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Example, Rollout

FILE = "answers.jsonl"
ASKED, KEPT = "asked", "kept"


@dataclass(frozen=True)
class Answer:
    """``asked``: the preference that it was given for, ``None`` where nobody asked. ``kept``: is it learnt from?"""

    step: int
    example: Example
    response: str
    ids: tuple[int, ...]
    scores: tuple[float, ...]  # K, NaN: does not apply
    asked: tuple[float, ...] | None
    kept: bool


@dataclass
class Collected:
    """All answers of one run, in order; `add` writes them, `resume` reads them. ``ranks``: the processes that share the
    run, of which the first writes.
    """

    bench: Bench
    ranks: Ranks
    answers: list[Answer] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.bench.dir / FILE

    @property
    def scores(self) -> Tensor:
        """(N, K) of all answers, kept or not."""
        return torch.tensor([answer.scores for answer in self.answers])

    def kept(self, *, asked: bool) -> list[Answer]:
        """The answers to learn from: those that a preference was asked for, or the others."""
        return [answer for answer in self.answers if answer.kept and (answer.asked is not None) == asked]

    def add(
        self, step: int, rollout: Rollout, scores_BK: Tensor, kept_B: Tensor, asked_BK: Tensor | None = None
    ) -> None:
        asked = [None] * len(kept_B) if asked_BK is None else [tuple(row) for row in asked_BK.tolist()]
        masked = zip(rollout.response_ids_BT.cpu(), rollout.response_mask_BT.cpu(), strict=True)
        ids = [tuple(row[mask].tolist()) for row, mask in masked]
        scores, kept = map(tuple, scores_BK.tolist()), kept_B.tolist()
        parts = zip(rollout.examples, rollout.responses, ids, scores, asked, kept, strict=True)
        fresh = [Answer(step, *part) for part in parts]
        self.answers += fresh
        if self.ranks.first:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(self._line(answer) for answer in fresh)

    def resume(self, step: int) -> None:
        """Take up the answers that an earlier process has collected before ``step``, and forget the later ones."""
        rows = self.ranks.once(lambda: self._cut(step))
        examples = {example.id: example for example in self.bench.train}
        self.answers = [self._answer(row, examples) for row in rows]

    def _cut(self, step: int) -> list[dict[str, Any]]:
        whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0] if self.path.exists() else ""
        rows = [row for line in whole.splitlines() if (row := json.loads(line))["step"] < step]
        draft = self.path.with_suffix(".part")
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        draft.replace(self.path)
        return rows

    def _line(self, answer: Answer) -> str:
        scores = dict(zip(self.bench.objectives, or_none(answer.scores), strict=True))
        said = {"step": answer.step, "id": answer.example.id, "prompt": answer.example.prompt}
        rest = {"response": answer.response, ASKED: answer.asked, KEPT: answer.kept, "ids": answer.ids}
        return json.dumps({**scores, **said, **rest}) + "\n"

    def _answer(self, row: Mapping[str, Any], examples: Mapping[str, Example]) -> Answer:
        scores = tuple(math.nan if row[name] is None else row[name] for name in self.bench.objectives)
        asked = None if row[ASKED] is None else tuple(row[ASKED])
        return Answer(row["step"], examples[row["id"]], row["response"], tuple(row["ids"]), scores, asked, row[KEPT])


def as_rollout(
    answers: Sequence[Answer], examples: Sequence[Example], temperature: float, device: torch.device
) -> Rollout:
    """Answers as given to ``examples``, to be learnt from: nobody knows any more how likely they were (NaN)."""
    width = max(len(answer.ids) for answer in answers)
    ids_BT = torch.tensor([[*answer.ids, *[0] * (width - len(answer.ids))] for answer in answers], device=device)
    lengths_B = torch.tensor([len(answer.ids) for answer in answers], device=device)
    mask_BT = torch.arange(width, device=device) < lengths_B[:, None]
    unknown_BT = torch.full(ids_BT.shape, torch.nan, device=device).masked_fill(~mask_BT, 0.0)
    responses = tuple(answer.response for answer in answers)
    return Rollout(tuple(examples), responses, ids_BT, mask_BT, unknown_BT, 1, temperature)
