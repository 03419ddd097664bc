"""Scored answers that a method learns from again and again, written to disk as they come.

Each line is one JSON object, in the form that `baselines.offline` reads, with the sampled ids beside the text. Every
line names its step. A run that resumes at a step drops the lines of later steps, and collects those answers anew.
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

from emorl_bench.core.damage import json_rows, reading
from emorl_bench.core.masked import or_none
from emorl_bench.core.protocols import Bench
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Example, Rollout

FILE = "answers.jsonl"
ASKED, KEPT = "asked", "kept"


@dataclass(frozen=True)
class Answer:
    """One scored answer.

    Attributes:
        step: the training step that it was given in.
        example: the prompt.
        response: the text.
        ids: the sampled token ids.
        scores: K numbers, NaN where an objective does not apply.
        asked: the preference that it was given for; None in the offline stage.
        kept: whether it is learnt from.
    """

    step: int
    example: Example
    response: str
    ids: tuple[int, ...]
    scores: tuple[float, ...]
    asked: tuple[float, ...] | None
    kept: bool


@dataclass
class Collected:
    """All answers of one run, in order; `add` writes them, and `resume` reads them.

    Attributes:
        bench: what the method is given; its directory holds the file.
        ranks: the processes that share the run. The first one writes.
        answers: the answers so far.
    """

    bench: Bench
    ranks: Ranks
    answers: list[Answer] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The file of answers."""
        return self.bench.dir / FILE

    @property
    def scores(self) -> Tensor:
        """(N, K) of all answers, kept or not."""
        return torch.tensor([answer.scores for answer in self.answers])

    def kept(self, *, asked: bool) -> list[Answer]:
        """The answers to learn from: those that were given for a preference, or the others."""
        return [answer for answer in self.answers if answer.kept and (answer.asked is not None) == asked]

    def add(
        self, step: int, rollout: Rollout, scores_BK: Tensor, kept_B: Tensor, asked_BK: Tensor | None = None
    ) -> None:
        """Note the answers of a step, and append them to the file.

        Args:
            step: the training step.
            rollout: B answers.
            scores_BK: their scores.
            kept_B: which of them are learnt from.
            asked_BK: the preference that each was given for; None in the offline stage.
        """
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
        """Read the answers that an earlier process collected before ``step``, and drop the later ones from the file.

        Raises:
            UserError: the file is damaged.
        """
        rows = self.ranks.once(lambda: self._cut(step))
        examples = {example.id: example for example in self.bench.train}
        with reading(self.path):
            self.answers = [self._answer(row, examples) for row in rows]

    def _cut(self, step: int) -> list[dict[str, Any]]:
        with reading(self.path):
            rows = [row for row in json_rows(self.path) if row["step"] < step]
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
    """Answers to ``examples`` as a rollout to learn from; their log-probabilities are no longer known (NaN)."""
    width = max(len(answer.ids) for answer in answers)
    ids_BT = torch.tensor([[*answer.ids, *[0] * (width - len(answer.ids))] for answer in answers], device=device)
    lengths_B = torch.tensor([len(answer.ids) for answer in answers], device=device)
    mask_BT = torch.arange(width, device=device) < lengths_B[:, None]
    unknown_BT = torch.full(ids_BT.shape, torch.nan, device=device).masked_fill(~mask_BT, 0.0)
    responses = tuple(answer.response for answer in answers)
    return Rollout(tuple(examples), responses, ids_BT, mask_BT, unknown_BT, 1, temperature)
