"""Scored answers that somebody else gave: read from a file, and dealt out in groups of one prompt.

Each line is one JSON object with ``prompt``, ``response``, and the score of each objective under its name. A score is
``null`` where the objective does not apply. A run's ``samples.jsonl`` has this form.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Example, Rollout, Sampling


@dataclass(frozen=True)
class Answers:
    """All answers to one prompt, at least two, and their scores (N, K); NaN: does not apply."""

    example: Example
    responses: tuple[str, ...]
    scores: Tensor


@dataclass(frozen=True)
class Recorded:
    """The answers of a file by prompt, in the file's order.

    Attributes:
        answers: the prompts with two or more answers.
        left_out: the number of lines that are not learnt from.
        fingerprint: a hash of the file (16 hex digits).
    """

    answers: tuple[Answers, ...]
    left_out: int
    fingerprint: str

    @classmethod
    def read(cls, path: Path, objectives: Sequence[str], known: Sequence[Example] | None) -> Recorded:
        """Read a file of answers.

        Args:
            path: the file.
            objectives: the names of the K scores.
            known: the prompts that may be learnt from; None is all.

        Raises:
            UserError: there is no such file, a line is not understood, or no line can be learnt from.
        """
        try:
            raw = path.expanduser().read_bytes()
        except OSError as error:
            raise UserError(f"method.file={path}: cannot be read ({error.strerror})") from None
        by_prompt = None if known is None else {example.prompt: example for example in known}
        found: dict[str, list[tuple[str, list[float]]]] = {}
        lines = [line for line in raw.decode("utf-8", "replace").split("\n") if line.strip()]
        for number, line in enumerate(lines, 1):
            prompt, response, scores = _row(line, objectives, f"method.file={path}, line {number}")
            if by_prompt is None or prompt in by_prompt:
                found.setdefault(prompt, []).append((response, scores))
        kept = {prompt: rows for prompt, rows in found.items() if len(rows) > 1}
        if not kept:
            why = "answers of prompts of the train split" if by_prompt is not None else "two answers to one prompt"
            raise UserError(
                f"method.file={path}: none of its {len(lines)} lines can be learnt from; it needs {why}, "
                "two or more of each (a run's samples.jsonl holds report prompts: method.prompts=any takes those too)"
            )
        answers = [
            Answers(
                Example(str(i), prompt) if by_prompt is None else by_prompt[prompt],
                tuple(response for response, _ in rows),
                torch.tensor([scores for _, scores in rows]),
            )
            for i, (prompt, rows) in enumerate(kept.items())
        ]
        left_out = len(lines) - sum(map(len, kept.values()))
        return cls(tuple(answers), left_out, hashlib.sha256(raw).hexdigest()[:16])

    def deal(self, policy: Policy, prompts: int, sampling: Sampling, rng: torch.Generator) -> tuple[Rollout, Tensor]:
        """Draw some prompts, and answers to each of them, without replacement.

        A prompt with fewer than G answers repeats one of them without a score, so that one is learnt from only once.

        Args:
            policy: its tokenizer encodes the answers.
            prompts: the number of prompts.
            sampling: G answers for each prompt, cut at the largest number of tokens.
            rng: draws prompts and answers.

        Returns:
            a rollout of B rows, and scores (B, K).
        """
        size, examples, responses, rows = sampling.samples_per_prompt, list[Example](), list[str](), list[Tensor]()
        for i in torch.randperm(len(self.answers), generator=rng)[:prompts].tolist():
            given = self.answers[i]
            row_indices = torch.randperm(len(given.responses), generator=rng)[:size].tolist()
            missing = size - len(row_indices)
            examples += [given.example] * size
            responses += [given.responses[pick] for pick in row_indices + row_indices[:1] * missing]
            rows += [given.scores[row_indices], torch.full((missing, given.scores.shape[1]), math.nan)]
        return _rollout(policy, examples, responses, sampling), torch.cat(rows)


def _rollout(policy: Policy, examples: Sequence[Example], responses: Sequence[str], sampling: Sampling) -> Rollout:
    """Given answers as a rollout. Their log-probabilities are unknown (NaN), and they end where a sample would end."""
    ids_BT, mask_BT = (part[:, : sampling.max_new_tokens] for part in policy.tokenize_responses(responses))
    unknown_BT = torch.full(ids_BT.shape, math.nan, device=ids_BT.device).masked_fill(~mask_BT, 0.0)
    size, temperature = sampling.samples_per_prompt, sampling.temperature
    return Rollout(tuple(examples), tuple(responses), ids_BT, mask_BT, unknown_BT, size, temperature)


def _row(line: str, objectives: Sequence[str], where: str) -> tuple[str, str, list[float]]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: no JSON ({error.msg}); give one object a line") from None
    if not isinstance(row, Mapping) or not all(isinstance(row.get(key), str) for key in ("prompt", "response")):
        raise UserError(f"{where}: give an object with prompt and response, both text")
    if missing := [name for name in objectives if name not in row]:
        raise UserError(f"{where}: no score '{missing[0]}'; give every objective of the task ({', '.join(objectives)})")
    scores = [row[name] for name in objectives]
    for name, score in zip(objectives, scores, strict=True):
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
            raise UserError(f"{where}: {name}={score!r} is no number; give a score, or null where it does not apply")
    return row["prompt"], row["response"], [math.nan if score is None else float(score) for score in scores]
