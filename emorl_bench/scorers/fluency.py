"""Is the response correct English in its context? Its perplexity under a reference causal language model.

``form: log`` reads the prompt and counts only the response's tokens: ``clip(1 - ln PPL / ln cap, 0, 1)``. It is 1 at
the lowest possible perplexity, and 0 from ``cap`` on. The logarithm (nats per token) spreads the range that matters: 10
to 100 is as wide as 100 to 1000. ``form: paper`` is EMORL's (arXiv 2505.02579, released code): ``clip((cap - PPL) /
cap)`` of prompt and response together with the cap 50, so a fluent prompt raises the score of a poor response. Under
either form repetition has a low perplexity, so use a diversity objective beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.memory import LARGEST
from emorl_bench.core.types import Example
from emorl_bench.models.readout import Head, rows_within, token_logprobs
from emorl_bench.scorers.checkpoints import Judge, Loaded

CAPS = {"log": 1000.0, "paper": 50.0}  # perplexity from which the score is 0, by form


@dataclass(frozen=True, kw_only=True)
class Fluency(Judge):
    """Perplexity as a score. ``cap``: None is the form's own. An empty response scores 0."""

    model: str = "offline:smollm2_135m"
    form: str = "log"
    cap: float | None = None
    batch_tokens: int = 2048
    name: str = "fluency"
    kind = "causal"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1].

        Raises:
            UserError: an unknown form, a cap that is not above 1, or a model that cannot be loaded.
        """
        if self.form not in CAPS:
            raise UserError(f"scorer {self.name}: form={self.form}: unknown{did_you_mean(self.form, CAPS)}")
        cap = CAPS[self.form] if self.cap is None else self.cap
        if cap <= 1:
            raise UserError(f"scorer {self.name}: cap={cap}: give a perplexity above 1")
        nll_B = self.nll(examples, responses).double()  # float32 functions differ by the place in a tensor
        score_B = 1 - nll_B / math.log(cap) if self.form == "log" else 1 - nll_B.exp() / cap
        said_B = torch.tensor([bool(r.strip()) for r in responses], dtype=torch.bool)
        return score_B.clamp(0.0, 1.0).float() * said_B

    def nll(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) mean negative log-likelihood in nats per counted token; infinite where no token counts."""
        loaded = self.loaded()
        block = self.block_bytes or LARGEST
        rows, first = self._rows(loaded, [e.prompt for e in examples], responses)

        def judge(indices: list[int], width: int) -> Tensor:
            head, states_BTX = loaded.states(loaded.padded([rows[i] for i in indices], width), block)
            values = [_mean_nll(head, states_BTX[b], rows[i], first[i], block) for b, i in enumerate(indices)]
            return torch.stack(values)

        return self.in_batches(rows, judge)

    def _rows(
        self, loaded: Loaded, prompts: Sequence[str], responses: Sequence[str]
    ) -> tuple[list[list[int]], list[int]]:
        """Token ids of each text, and the index of the first token that counts.

        Prompt and response are tokenized separately, so each token belongs to one of them. Where a text is longer than
        the model's context, the beginning of the prompt is cut, then the end of the response.
        """
        start = loaded.tokenizer.bos_token_id
        begin = [loaded.tokenizer.eos_token_id if start is None else start]
        if self.form == "paper":
            texts = [f"{prompt} {response}" for prompt, response in zip(prompts, responses, strict=True)]
            return [row[: loaded.context] or begin for row in _ids(loaded, texts)], [1] * len(texts)
        said = _ids(loaded, [f" {response.strip()}" for response in responses])
        rows, first = [], []
        for before, after in zip(_ids(loaded, list(prompts)), said, strict=True):
            after = after[: loaded.context - 1]
            room = loaded.context - 1 - len(after)
            kept = before[len(before) - min(room, len(before)) :]
            rows.append([*begin, *kept, *after])
            first.append(1 + len(kept))
        return rows, first


def _ids(loaded: Loaded, texts: Sequence[str]) -> list[list[int]]:
    rows: list[list[int]] = loaded.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return rows


def _mean_nll(head: Head, states_TX: Tensor, ids: Sequence[int], first: int, block_bytes: int) -> Tensor:
    """Computed row by row, and only where tokens count."""
    if len(ids) <= first:
        return torch.tensor(math.inf)
    counted_TX = states_TX[first - 1 : len(ids) - 1]
    taken_T = torch.tensor(ids[first:], device=counted_TX.device)
    size = rows_within(block_bytes, head, counted_TX)
    blocks = torch.split(torch.arange(len(taken_T), device=taken_T.device), size)
    return -torch.cat([token_logprobs(head, counted_TX[at], taken_T[at]) for at in blocks]).mean().cpu()
